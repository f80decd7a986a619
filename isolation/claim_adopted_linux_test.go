// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// TestClaimAdopted: a container of somebody else's is not let go of squeezed, and
// it drifts and is explained like one of ours.
func TestClaimAdopted(t *testing.T) {
	testutil.CheckLeaks(t)
	c := foreign(t)
	if !c.Controllers().Has(cgroups.ControllerPIDs) {
		testutil.Skip(t, testutil.Cgroup2("pids"), "no hierarchy has it")
	}
	pid := c.start(t).Process.Pid
	h := open(t)
	for name, release := range map[string]func(*isolation.Sandbox) error{
		"release": func(s *isolation.Sandbox) error { return s.Release(deadline(t), isolation.KeepLimits) },
		"destroy": func(s *isolation.Sandbox) error { return s.Destroy(deadline(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Update(deadline(t), pidsMax(40))
			require.NoError(t, err)
			s := adopt(t, h, "db", isolation.PID(pid))
			_, err = s.Claim(deadline(t), isolation.Claim{Owner: "squeeze", Lease: time.Hour, Resources: pidsMax(20)})
			require.NoError(t, err)
			e, err := s.Explain()
			require.NoError(t, err)
			b, _ := e.Of("pids.max")
			assert.Equal(t, cgroups.Count(20), b.Limit)
			_, err = c.Update(deadline(t), pidsMax(30)) // its owner
			require.NoError(t, err)
			st, err := s.Check(deadline(t))
			require.NoError(t, err)
			require.Len(t, st.Drift, 1)
			assert.Equal(t, "30", st.Drift[0].Found)
			require.NoError(t, release(s))
			now, err := c.Resources()
			require.NoError(t, err)
			assert.Equal(t, cgroups.Count(40), now.PIDs.Max)
		})
	}
}
