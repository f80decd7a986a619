// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// forgetLast takes the last n lines of a record away, as if the process had died
// before it could write them.
func forgetLast(t *testing.T, cfg isolation.Config, id string, n int) {
	t.Helper()
	path := filepath.Join(cfg.Root, "sandboxes", id+".state")
	lines := strings.SplitAfter(strings.TrimSuffix(string(must(os.ReadFile(path))), "\n"), "\n")
	text := strings.TrimSuffix(strings.Join(lines[:len(lines)-n], ""), "\n") + "\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// An agent that dies in the middle of an update leaves a mixture of old and new
// limits, which the next one makes the old ones: those that were set, and those
// that nobody had set.
func TestUpdateCutOffIsTakenBack(t *testing.T) {
	for _, shared := range []bool{false, true} {
		cfg := config(t)
		cfg.Shared = shared
		h := must(isolation.Open(deadline(t), cfg))
		s := spec(t, "web", "wait")
		s.Resources.PIDs.Max = cgroups.Count(50)
		box := create(t, h, s)
		before, err := box.Limits()
		require.NoError(t, err)
		_, err = box.Update(deadline(t), cgroups.Resources{
			PIDs: cgroups.PIDs{Max: cgroups.Count(60)}, CPU: cgroups.CPU{Weight: cgroups.WeightOf(300)},
		})
		require.NoError(t, err)
		require.NoError(t, h.Close())
		forgetLast(t, cfg, "web", 1)

		h = openWith(t, cfg)
		require.Len(t, h.Recovered(), 1)
		assert.Contains(t, h.Recovered()[0].String(), "adopted: it is whole, and an update that was cut off was taken back")
		box = must(h.Sandbox(deadline(t), "web"))
		after, err := box.Limits()
		require.NoError(t, err)
		assert.Equal(t, before.PIDs, after.PIDs)
		assert.Equal(t, before.CPU, after.CPU)
		assert.Equal(t, s.Resources, box.Spec().Resources)
	}
}

// In a state directory that is shared, the one who comes next takes it back.
func TestUpdateCutOffInSharedState(t *testing.T) {
	cfg := config(t)
	cfg.Shared = true
	h := openWith(t, cfg)
	s := spec(t, "web", "wait")
	s.Resources.PIDs.Max = cgroups.Count(50)
	box := create(t, h, s)
	other := must(isolation.Open(deadline(t), cfg))
	_, err := must(other.Sandbox(deadline(t), "web")).Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(t, err)
	require.NoError(t, other.Close())
	forgetLast(t, cfg, "web", 1)

	_, err = box.Update(deadline(t), cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(300)}})
	require.NoError(t, err)
	now, err := box.Limits()
	require.NoError(t, err)
	assert.Equal(t, cgroups.Count(50), now.PIDs.Max)
}

// A claim whose making was cut off is nobody's.
func TestClaimCutOffIsTakenBack(t *testing.T) {
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := create(t, h, spec(t, "web", "wait"))
	before, err := box.Limits()
	require.NoError(t, err)
	_, err = box.Claim(deadline(t), isolation.Claim{
		Owner: "burst", Lease: time.Hour, Resources: cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(300)}},
	})
	require.NoError(t, err)
	require.NoError(t, h.Close())
	forgetLast(t, cfg, "web", 1)

	h = openWith(t, cfg)
	box = must(h.Sandbox(deadline(t), "web"))
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, st.Claims)
	after, err := box.Limits()
	require.NoError(t, err)
	assert.Equal(t, before.CPU, after.CPU)
}

// What a start sets once the process runs is set by the next agent, if the one
// that started it died too soon.
func TestStartCutOffIsFinished(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.Cgroup2("memory"))
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	s := spec(t, "web", "wait")
	s.Resources.Memory.OOMGroup = cgroups.On
	started(t, h, s)
	file := filepath.Join(someTree(t, cfg, "web"), "memory.oom.group")
	require.Equal(t, "1\n", string(must(os.ReadFile(file))))
	require.NoError(t, os.WriteFile(file, []byte("0"), 0))
	require.NoError(t, h.Close())
	openWith(t, cfg)
	assert.Equal(t, "1\n", string(must(os.ReadFile(file))))
}
