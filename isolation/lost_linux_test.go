// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// survivors makes a running sandbox, a created one and one with other limits than
// it began with, and closes the host.
func survivors(t *testing.T, cfg isolation.Config) map[string]isolation.Status {
	t.Helper()
	h := must(isolation.Open(deadline(t), cfg))
	web := spec(t, "web", "wait")
	web.Labels = map[string]string{"app": "web", "empty": ""}
	web.Resources.PIDs.Max = cgroups.Count(50)
	web.Process.Env = []string{"SECRET=hush"}
	box := started(t, h, web)
	_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(t, err)
	create(t, h, spec(t, "idle", "wait"))
	all := make(map[string]isolation.Status)
	for s := range h.Sandboxes(nil) {
		all[s.ID()] = must(s.Check(deadline(t)))
	}
	require.NoError(t, h.Close())
	return all
}

// A state directory that is gone costs no sandbox: its group says what it is (fault
// 17, deleted).
func TestStateDirectoryIsLost(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	before := survivors(t, cfg)
	require.NoError(t, os.RemoveAll(cfg.Root))

	// Somebody else's groups beside them are nobody of ours.
	dir := filepath.Dir(someTree(t, cfg, "web"))
	foreign := filepath.Join(dir, "foreign")
	require.NoError(t, os.Mkdir(foreign, 0o755))
	defer func() { require.NoError(t, syscall.Rmdir(foreign)) }()

	h := openWith(t, cfg)
	require.Len(t, h.Recovered(), 2)
	for _, r := range h.Recovered() {
		assert.True(t, r.Adopted, "%v", r)
		assert.Contains(t, r.Reason, "its record was lost")
	}
	box := must(h.Sandbox(deadline(t), "web"))
	st := must(box.Check(deadline(t)))
	assert.Equal(t, before["web"].PID, st.PID)
	assert.Equal(t, before["web"].Labels, st.Labels)
	assert.Equal(t, before["web"].CreatedAt.UnixNano(), st.CreatedAt.UnixNano())
	assert.Equal(t, cgroups.Count(60), box.Spec().Resources.PIDs.Max, "as the kernel has it")
	assert.Empty(t, box.Spec().Process.Env, "which may be secret, and is not written where others can read")
	assert.Empty(t, st.Drift)
	assert.Equal(t, isolation.StateCreated, must(h.Check(deadline(t), "idle")).State)
	require.NoError(t, must(h.Sandbox(deadline(t), "idle")).Start(deadline(t)))
	require.NoError(t, h.Destroy(deadline(t), "web"))
	nothingOf(t, cfg, "web")
	require.DirExists(t, foreign)
}

// Another host of the same parent group leaves what is not its own (fault 11, unknown
// orphans).
func TestOtherHostsMarksAreNotOurs(t *testing.T) {
	cfg := config(t)
	survivors(t, cfg)
	other := cfg
	other.Root = t.TempDir() + "/other"
	h := must(isolation.Open(deadline(t), other))
	assert.Empty(t, h.Recovered())
	require.NoError(t, h.Remove(deadline(t)))
	require.NoError(t, h.Close())
	h = openWith(t, cfg)
	assert.Len(t, h.Recovered(), 2)
}

// Attributes are for other tools as well.
func TestLabelsAreOnTheGroup(t *testing.T) {
	cfg := config(t)
	survivors(t, cfg)
	h := openWith(t, cfg)
	labels, err := must(h.Sandbox(deadline(t), "web")).Cgroup().Labels()
	require.NoError(t, err)
	assert.Equal(t, "web", labels["label.app"])
	assert.Contains(t, labels, "label.empty")
	assert.Contains(t, labels["sandbox"], `"id":"web"`)
	for _, text := range labels {
		assert.NotContains(t, text, "hush")
	}
}

// A network survives the loss too.
func TestNetworkOfLostStateIsKept(t *testing.T) {
	cfg, machine := networked(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := started(t, h, routed(t, "web"))
	addr := box.Interfaces()[0].Addrs[0].Addr()
	require.NoError(t, h.Close())
	require.NoError(t, os.RemoveAll(cfg.Root))

	h = openWith(t, cfg)
	require.Len(t, h.Recovered(), 1)
	require.True(t, h.Recovered()[0].Adopted, "%v", h.Recovered())
	box = must(h.Sandbox(deadline(t), "web"))
	assert.Equal(t, addr, box.Interfaces()[0].Addrs[0].Addr())
	assert.True(t, strings.HasPrefix(ask(t, machine, addr), "web|"))
	other := create(t, h, routed(t, "other"))
	assert.NotEqual(t, addr, other.Interfaces()[0].Addrs[0].Addr())
	assert.Equal(t, netns.ModeNew, box.Spec().Network.Mode)
}
