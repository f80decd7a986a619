// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever sets the clock between two agents makes no claim last longer or shorter
// (fault 19, clock jump).
func TestClockJump(t *testing.T) {
	testutil.Require(t, testutil.Root)
	for name, by := range map[string]time.Duration{"back": -24 * time.Hour, "ahead": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
			defer cancel()
			m := newManual()
			cfg := Config{Root: t.TempDir() + "/state", Parent: testutil.CgroupName(t), clock: m.clock()}
			h, err := Open(ctx, cfg)
			require.NoError(t, err)
			s, err := h.Create(ctx, Spec{ID: "web", Process: Process{Args: testutil.ChildArgs(t, "wait")}})
			require.NoError(t, err)
			before, err := s.Limits()
			require.NoError(t, err)
			_, err = s.Claim(ctx, Claim{Owner: "burst", Lease: time.Hour,
				Resources: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}}})
			require.NoError(t, err)
			require.NoError(t, h.Close())

			m.jump(by)
			h, err = Open(ctx, cfg)
			require.NoError(t, err)
			s, err = h.Sandbox(ctx, "web")
			require.NoError(t, err)
			claims := func() []ClaimStatus {
				st, err := s.Check(ctx)
				require.NoError(t, err)
				return st.Claims
			}
			m.pass(59 * time.Minute)
			require.Len(t, claims(), 1)
			assert.Equal(t, time.Minute, claims()[0].Until.Sub(m.now()))
			m.pass(2 * time.Minute)
			assert.Empty(t, claims())
			now, err := s.Limits()
			require.NoError(t, err)
			assert.Equal(t, before.PIDs, now.PIDs)
			require.NoError(t, h.Destroy(ctx, "web"))
			require.NoError(t, h.Remove(ctx))
			require.NoError(t, h.Close())
		})
	}
}

// While one agent runs, the ends of claims go by a clock that nobody sets.
func TestLeaseIsMonotonic(t *testing.T) {
	until := realClock().now().Add(time.Hour)
	assert.Contains(t, until.String(), " m=+", "time.Time compares by its monotonic reading")
	assert.Greater(t, realClock().uptime(), time.Duration(0))
}
