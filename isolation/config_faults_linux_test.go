// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// runs sees that the process of a sandbox is in its group.
func runs(t *testing.T, cfg isolation.Config, id string, pid int) {
	t.Helper()
	text := string(must(os.ReadFile(filepath.Join(someTree(t, cfg, id), "cgroup.procs"))))
	require.Equal(t, fmt.Sprintf("%d\n", pid), text)
}

// Another Parent than that of the sandboxes is refused, and harms none of them
// (fault 10, changed configuration).
func TestParentChanged(t *testing.T) {
	cfg := config(t)
	before := survivors(t, cfg)
	other := cfg
	other.Parent = testutil.CgroupName(t)
	_, err := isolation.Open(deadline(t), other)
	require.ErrorIs(t, err, isolation.ErrInvalid)
	require.ErrorContains(t, err, `2 sandboxes of this state directory, "idle" among them, are below "`+cfg.Parent+`"`)
	runs(t, cfg, "web", before["web"].PID)
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	for _, m := range mounts {
		assert.NoDirExists(t, filepath.Join(m.Path, other.Parent))
	}

	h := must(isolation.Open(deadline(t), cfg))
	require.Len(t, h.Recovered(), 2)
	assert.True(t, h.Recovered()[1].Adopted)
	for _, id := range []string{"web", "idle"} {
		require.NoError(t, h.Destroy(deadline(t), id))
	}
	require.NoError(t, h.Close())
	openWith(t, other) // there is nothing left to lose
}

// A host of another state directory, on the same Parent, has nothing to do with the
// sandboxes there, and cannot make one in the place of theirs (fault 10, changed
// configuration).
func TestRootChanged(t *testing.T) {
	cfg := config(t)
	before := survivors(t, cfg)
	other := cfg
	other.Root = filepath.Join(t.TempDir(), "other")
	h := must(isolation.Open(deadline(t), other))
	assert.Empty(t, h.Recovered())
	_, err := h.Create(deadline(t), spec(t, "web", "wait"))
	require.Error(t, err)
	runs(t, cfg, "web", before["web"].PID)
	require.NoError(t, h.Destroy(deadline(t), "web"), "which it does not have")
	require.NoError(t, h.Close())

	// Nor does one that died after the first line of its record.
	boot := must(linux.BootID())
	half := fmt.Sprintf(`{"v":1,"boot":%q,"spec":{"id":"web","process":{"args":["x"]}},"at":"2026-01-01T00:00:00Z","phase":"creating"}`+"\n", boot)
	require.NoError(t, os.WriteFile(filepath.Join(other.Root, "sandboxes", "web.state"), []byte(half), 0o600))
	h = must(isolation.Open(deadline(t), other))
	require.Len(t, h.Recovered(), 1)
	assert.Equal(t, "web: removed: it was half-made", h.Recovered()[0].String())
	require.NoError(t, h.Remove(deadline(t)))
	require.NoError(t, h.Close())
	runs(t, cfg, "web", before["web"].PID)
	h = openWith(t, cfg)
	assert.Len(t, h.Recovered(), 2)
}

// plainDriver is a driver with three calls.
type plainDriver struct{}

func (plainDriver) Create(context.Context, *isolation.Container) error  { return nil }
func (plainDriver) Destroy(context.Context, *isolation.Container) error { return nil }
func (plainDriver) Check(context.Context, *isolation.Container) (isolation.Status, error) {
	return isolation.Status{State: isolation.StateRunning}, nil
}

// A sandbox whose driver is not configured any more is left alone, and found again
// with it (fault 10, changed configuration).
func TestDriverMissing(t *testing.T) {
	cfg := config(t)
	cfg.Drivers = map[string]isolation.Driver{"plain": plainDriver{}}
	h := must(isolation.Open(deadline(t), cfg))
	s := spec(t, "web", "wait")
	s.Driver = "plain"
	create(t, h, s)
	require.NoError(t, h.Close())

	without := cfg
	without.Drivers = nil
	h = must(isolation.Open(deadline(t), without))
	require.Len(t, h.Recovered(), 1)
	require.ErrorIs(t, h.Recovered()[0].Err, isolation.ErrNotSupported)
	require.ErrorContains(t, h.Recovered()[0].Err, `driver "plain" is not configured`)
	require.Error(t, h.Destroy(deadline(t), "web"), "nobody here can")
	require.NoError(t, h.Close())

	h = openWith(t, cfg)
	assert.True(t, h.Recovered()[0].Adopted)
}

// A state directory has one host, by whatever path it is opened (fault 17, symlinked
// away).
func TestStateDirectoryBehindALink(t *testing.T) {
	cfg := config(t)
	before := survivors(t, cfg)
	moved := cfg.Root + "-moved"
	require.NoError(t, os.Rename(cfg.Root, moved))
	require.NoError(t, os.Symlink(moved, cfg.Root))
	h := openWith(t, cfg)
	require.Len(t, h.Recovered(), 2)
	for _, r := range h.Recovered() {
		assert.True(t, r.Adopted, "%v", r)
	}
	runs(t, cfg, "web", before["web"].PID)
	direct := cfg
	direct.Root = moved
	_, err := isolation.Open(deadline(t), direct)
	require.ErrorIs(t, err, isolation.ErrLocked)
}

// A state directory that is deleted under a running host costs no sandbox (fault 17,
// deleted).
func TestStateDirectoryIsDeleted(t *testing.T) {
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := started(t, h, spec(t, "web", "wait"))
	pid := must(box.Check(deadline(t))).PID
	require.NoError(t, os.RemoveAll(cfg.Root))
	_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(t, err)
	require.NoError(t, h.Close())
	h = openWith(t, cfg)
	require.Len(t, h.Recovered(), 1)
	assert.True(t, h.Recovered()[0].Adopted, "%v", h.Recovered()[0])
	assert.Equal(t, pid, must(h.Check(deadline(t), "web")).PID)
	now := must(must(h.Sandbox(deadline(t), "web")).Limits())
	assert.Equal(t, cgroups.Count(60), now.PIDs.Max)
}

// A record of the earliest release is read, and so is what a later one has added to
// the same format (fault 14, upgrade and downgrade).
func TestRecordOfOtherReleases(t *testing.T) {
	cfg := config(t)
	h := must(isolation.Open(deadline(t), cfg))
	box := started(t, h, spec(t, "web", "wait"))
	pid := must(box.Check(deadline(t))).PID
	_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(t, err)
	id := box.Cgroup().ID()
	require.NoError(t, h.Close())
	args := string(must(json.Marshal(testutil.ChildArgs(t, "wait"))))
	group := fmt.Sprintf(`"group":{"dev":%d,"ino":%d}`, id.Dev, id.Ino)
	earliest := []string{
		fmt.Sprintf(`{"v":1,"boot":%q,"spec":{"id":"web","process":{"args":%s},"resources":{"pids":{"max":"50"}}},"at":"2026-01-01T00:00:00Z","phase":"creating"}`, must(linux.BootID()), args),
		`{"at":"2026-01-01T00:00:00Z","driver":{` + group + `}}`,
		`{"at":"2026-01-01T00:00:00Z","phase":"created"}`,
		fmt.Sprintf(`{"at":"2026-01-01T00:00:01Z","driver":{%s,"pid":%d,"since":%d,"startedAt":"2026-01-01T00:00:01Z"}}`, group, pid, must(linux.StartTime(pid))),
		`{"at":"2026-01-01T00:00:02Z","update":{"pids":{"max":"60"}}}`,
		`{"at":"2026-01-01T00:00:02Z","updated":{"pids":{"max":"60"}}}`,
	}
	later := append(earliest[:len(earliest):len(earliest)],
		`{"at":"2026-01-01T00:00:03Z","hibernated":{"to":"disk"},"driver":{`+group+fmt.Sprintf(`,"pid":%d,"since":%d,"colour":"red"}}`, pid, must(linux.StartTime(pid))))
	path := filepath.Join(cfg.Root, "sandboxes", "web.state")
	for name, lines := range map[string][]string{"earliest": earliest, "later": later} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
			h := must(isolation.Open(deadline(t), cfg))
			require.Len(t, h.Recovered(), 1)
			require.Equal(t, "web: adopted: it is whole", h.Recovered()[0].String())
			st := must(h.Check(deadline(t), "web"))
			assert.Equal(t, pid, st.PID)
			assert.Equal(t, isolation.StateRunning, st.State)
			assert.Empty(t, st.Drift)
			assert.Equal(t, cgroups.Count(60), must(h.Sandbox(deadline(t), "web")).Spec().Resources.PIDs.Max)
			require.NoError(t, h.Close())
		})
	}
	openWith(t, cfg)
}

// A record of a later format is refused with an error that says what to do, its
// sandbox runs on, and so do others (faults 14 and 19, unknown version).
func TestRecordOfLaterFormat(t *testing.T) {
	cfg := config(t)
	before := survivors(t, cfg)
	path := filepath.Join(cfg.Root, "sandboxes", "web.state")
	text := must(os.ReadFile(path))
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(plain(text), `"v":1`, `"v":2`, 1)), 0o600))
	h := must(isolation.Open(deadline(t), cfg))
	require.Len(t, h.Recovered(), 2)
	assert.True(t, h.Recovered()[0].Adopted)
	err := h.Recovered()[1].Err
	require.ErrorIs(t, err, isolation.ErrNotSupported)
	require.ErrorContains(t, err, "record format 2")
	require.ErrorContains(t, err, "this release reads format 1: open the host with the one that wrote it")
	_, err = h.Create(deadline(t), spec(t, "web", "wait"))
	require.ErrorIs(t, err, isolation.ErrExists)
	require.NoError(t, h.Close())
	runs(t, cfg, "web", before["web"].PID)

	require.NoError(t, os.WriteFile(path, text, 0o600)) // as the later release left it, here
	h = openWith(t, cfg)
	assert.Equal(t, before["web"].PID, must(h.Check(deadline(t), "web")).PID)
}
