// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pidsHeeder fails where a sandbox is to have 13 processes, and keeps what the state
// directory had when it was first asked.
type pidsHeeder struct {
	state string
	kept  map[string][]byte
	asked []cgroups.Limit
}

func (*pidsHeeder) Name() string                                        { return "pids-heeder" }
func (*pidsHeeder) Prepare(context.Context, *isolation.Container) error { return nil }
func (*pidsHeeder) Cleanup(context.Context, *isolation.Container) error { return nil }
func (p *pidsHeeder) Update(_ context.Context, c *isolation.Container, r cgroups.Resources) error {
	p.asked = append(p.asked, r.PIDs.Max)
	if p.kept == nil {
		p.kept = map[string][]byte{}
		for _, path := range must(filepath.Glob(p.state + "/*.state")) {
			p.kept[path] = must(os.ReadFile(path))
		}
	}
	if r.PIDs.Max == cgroups.Count(13) {
		return errors.New("unlucky")
	}
	return nil
}

func TestUpdateAll(t *testing.T) {
	testutil.CheckLeaks(t)
	t.Run("alone", func(t *testing.T) { updateAll(t, config(t)) })
	t.Run("shared", func(t *testing.T) {
		cfg := config(t)
		cfg.Shared = true
		updateAll(t, cfg)
	})
}

func updateAll(t *testing.T, cfg isolation.Config) {
	heeder := &pidsHeeder{state: filepath.Join(cfg.Root, "sandboxes")}
	cfg.Isolators = []isolation.Isolator{heeder}
	h := must(isolation.Open(deadline(t), cfg))
	pids := func(n uint64) cgroups.Resources {
		return cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(n)}}
	}
	boxes := map[string]*isolation.Sandbox{}
	for id, class := range map[string]elastic.Class{"a": elastic.Standard, "b": elastic.BestEffort} {
		s := spec(t, id, "wait")
		s.Class, s.Resources = class, pids(50)
		boxes[id] = create(t, h, s)
	}
	both := func(a, b cgroups.Resources) []isolation.SandboxResources {
		return []isolation.SandboxResources{{Sandbox: boxes["b"], Resources: b}, {Sandbox: boxes["a"], Resources: a}}
	}
	holds := func(a, b uint64) {
		t.Helper()
		for id, n := range map[string]uint64{"a": a, "b": b} {
			assert.Equal(t, cgroups.Count(n), boxes[id].Spec().Resources.PIDs.Max)
			now := must(boxes[id].Limits(cgroups.ControllerPIDs))
			assert.Equal(t, cgroups.Count(n), now.PIDs.Max)
			assert.Empty(t, must(boxes[id].Check(deadline(t))).Drift)
		}
	}

	result, err := h.UpdateAll(deadline(t), both(pids(40), pids(60)))
	require.NoError(t, err)
	assert.Len(t, result.Changes, 2)
	holds(40, 60)
	crashed := heeder.kept
	result, err = h.UpdateAll(deadline(t), both(pids(40), pids(60)))
	require.NoError(t, err)
	assert.Empty(t, result.Changes)

	// An isolator, a claim or the kernel that is against one is against all.
	heeder.asked = nil
	_, err = h.UpdateAll(deadline(t), both(pids(41), pids(13)))
	require.ErrorContains(t, err, `update "b": pids-heeder: unlucky`)
	assert.Equal(t, []cgroups.Limit{cgroups.Count(41), cgroups.Count(13), cgroups.Count(40)}, heeder.asked)
	holds(40, 60)
	_, err = boxes["b"].Claim(deadline(t), isolation.Claim{Owner: "other", Lease: time.Minute, Resources: pids(60)})
	require.NoError(t, err)
	_, err = h.UpdateAll(deadline(t), both(pids(41), pids(61)))
	require.ErrorIs(t, err, isolation.ErrConflict)
	holds(40, 60)
	_, err = boxes["b"].Unclaim(deadline(t), "other")
	require.NoError(t, err)
	if h.Root().Controllers().Has(cgroups.ControllerCPUSet) {
		none := pids(61)
		none.CPUSet.CPUs = cgroups.SetOf(4000)
		_, err = h.UpdateAll(deadline(t), both(pids(41), none))
		var u *cgroups.UpdateError
		require.ErrorAs(t, err, &u)
		require.NoError(t, u.Undo)
		assert.NotContains(t, err.Error(), `update "`, "the group is named, and no sandbox that has no part in it")
		holds(40, 60)
	}
	over, cancel := context.WithCancel(deadline(t))
	cancel()
	_, err = h.UpdateAll(over, both(pids(1), pids(2)))
	require.ErrorIs(t, err, context.Canceled)

	for _, bad := range [][]isolation.SandboxResources{
		{{}}, append(both(pids(1), pids(2)), both(pids(1), pids(2))...), both(pids(1), pids(1<<40)),
	} {
		_, err = h.UpdateAll(deadline(t), bad)
		require.ErrorIs(t, err, isolation.ErrInvalid)
	}
	_, err = h.UpdateAll(deadline(t), nil)
	require.NoError(t, err)
	holds(40, 60)

	// The agent dies when the groups have the new limits and the records do not say so.
	require.NoError(t, h.Close())
	for _, path := range slices.Collect(maps.Keys(crashed)) {
		require.NoError(t, os.WriteFile(path, crashed[path], 0o600))
	}
	h = openWith(t, cfg)
	for _, r := range h.Recovered() {
		assert.Contains(t, r.Reason, "an update that was cut off was taken back")
		boxes[r.ID] = must(h.Sandbox(deadline(t), r.ID))
	}
	holds(50, 50)
	require.NoError(t, boxes["a"].Destroy(deadline(t)))
	_, err = h.UpdateAll(deadline(t), both(pids(1), pids(2)))
	require.ErrorIs(t, err, isolation.ErrNotFound)
	assert.Equal(t, cgroups.Count(50), must(boxes["b"].Limits(cgroups.ControllerPIDs)).PIDs.Max)
}
