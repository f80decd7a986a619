// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// damaged opens hosts on a record that is damaged in one way after the other: the
// sandbox is recovered as it was, or left alone with an error that says why, and
// its process lives on either way.
func damaged(t *testing.T, cfg isolation.Config, pid int, each func(whole []byte, yield func(name string, text []byte))) {
	t.Helper()
	path := filepath.Join(cfg.Root, "sandboxes", "web.state")
	whole := must(os.ReadFile(path))
	recovered, refused := 0, 0
	each(whole, func(name string, text []byte) {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		h := must(isolation.Open(deadline(t), cfg))
		require.Len(t, h.Recovered(), 1, name)
		r := h.Recovered()[0]
		if r.Err == nil {
			recovered++
			require.True(t, r.Adopted, "%s: %v", name, r)
			st := must(h.Check(deadline(t), "web"))
			require.Equal(t, isolation.StateRunning, st.State, name)
			require.Equal(t, pid, st.PID, name)
			require.Equal(t, map[string]string{"app": "web", "empty": ""}, st.Labels, name)
			// Limits that a whole line told of which is gone are told as drift.
			require.LessOrEqual(t, len(st.Drift), 1, name)
		} else {
			refused++
			require.True(t, isolation.IsCorrupt(r.Err), "%s: %v", name, r)
		}
		require.NoError(t, h.Close())
		require.Contains(t, string(must(os.ReadFile(filepath.Join(someTree(t, cfg, "web"), "cgroup.procs")))), "\n", name)
	})
	t.Logf("%d recovered, %d refused", recovered, refused)
	require.NoError(t, os.WriteFile(path, whole, 0o600))
}

// A record that is truncated, damaged, replaced or huge gives the sandbox as it was, or
// an error (faults 16 and 19).
func TestDamagedRecord(t *testing.T) {
	testutil.Require(t, testutil.Real)
	cfg := config(t)
	pid := survivors(t, cfg)["web"].PID
	require.NoError(t, os.Remove(filepath.Join(cfg.Root, "sandboxes", "idle.state")))
	h := must(isolation.Open(deadline(t), cfg)) // finds it by its group
	require.NoError(t, h.Destroy(deadline(t), "idle"))
	require.NoError(t, h.Close())
	few := 40
	if testutil.Emulated() {
		few = 8
	}
	t.Run("truncated", func(t *testing.T) {
		damaged(t, cfg, pid, func(whole []byte, yield func(string, []byte)) {
			for n := 0; n < len(whole); n += len(whole)/few + 1 {
				yield(string(whole[:n]), whole[:n])
			}
			for at := range whole {
				if whole[at] == '\n' {
					yield(string(whole[:at+1]), whole[:at+1])
				}
			}
		})
	})
	t.Run("bit flipped", func(t *testing.T) {
		damaged(t, cfg, pid, func(whole []byte, yield func(string, []byte)) {
			for n := 0; n < len(whole); n += len(whole)/few + 1 {
				text := bytes.Clone(whole)
				text[n] ^= 1 << (n % 8)
				yield(string(text), text)
			}
		})
	})
	t.Run("other", func(t *testing.T) {
		damaged(t, cfg, pid, func(whole []byte, yield func(string, []byte)) {
			yield("newer", []byte(strings.Replace(plain(whole), `"v":1`, `"v":2`, 1)))
			yield("zeros", make([]byte, len(whole)))
			yield("huge", bytes.Repeat([]byte("x"), 17<<20))
			yield("twice", append(bytes.Clone(whole), whole...))
			yield("other boot", regexp.MustCompile(`"boot":"[^"]*"`).ReplaceAll([]byte(plain(whole)), []byte(`"boot":"00000000-0000-0000-0000-000000000000"`)))
		})
	})

	// What makes no sense can be ended all the same.
	path := filepath.Join(cfg.Root, "sandboxes", "web.state")
	require.NoError(t, os.WriteFile(path, []byte("garbage\n"), 0o600))
	h = openWith(t, cfg)
	require.NoError(t, h.Destroy(deadline(t), "web"))
	nothingOf(t, cfg, "web")
	assert.NoFileExists(t, path)
	require.NoError(t, h.Destroy(deadline(t), "web"), "again")
}

// A number that another process has now is not believed (fault 9, pid reuse).
func TestReusedPID(t *testing.T) {
	cfg := config(t)
	survivors(t, cfg)
	path := filepath.Join(cfg.Root, "sandboxes", "web.state")
	text := plain(must(os.ReadFile(path)))
	other := regexp.MustCompile(`"(inode|since)":\d+`).ReplaceAllString(text, `"$1":1`)
	require.NotEqual(t, text, other)
	require.NoError(t, os.WriteFile(path, []byte(other), 0o600))
	h := openWith(t, cfg)
	st := must(h.Check(deadline(t), "web"))
	assert.Equal(t, isolation.StateExited, st.State)
	require.ErrorIs(t, must(h.Sandbox(deadline(t), "web")).Signal(deadline(t), 9), isolation.ErrState)
}

// A directory full of things that are no records harms nobody.
func TestHostileStateDirectory(t *testing.T) {
	cfg := config(t)
	survivors(t, cfg)
	dir := filepath.Join(cfg.Root, "sandboxes")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("{}\n"), 0o600))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "link.state")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dir.state"), 0o700))
	for _, name := range []string{".state", "..state", "-x.state", "a b.state", strings.Repeat("l", 200) + ".state", "x\n.state"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(`{"v":1,"boot":"x","phase":"destroying"}`+"\n"), 0o600))
	}
	h := openWith(t, cfg)
	adopted := 0
	for _, r := range h.Recovered() {
		if r.Adopted {
			adopted++
		} else {
			assert.Error(t, r.Err, "%v", r)
		}
	}
	assert.Equal(t, 2, adopted)
	assert.FileExists(t, secret)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "dir.state")))
	entries := must(os.ReadDir(dir))
	for _, e := range entries {
		if e.Name() != "web.state" && e.Name() != "idle.state" {
			require.NoError(t, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
}
