// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/isolation/runtimespec"
)

// TestBundle runs a bundle, and tells of what a sandbox does not have of it.
func TestBundle(t *testing.T) {
	c := newCLI(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, d := range []string{"rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rootfs/bin/caisson"), nil, 0o755))
	type object map[string]any
	config, err := json.Marshal(object{
		"ociVersion": "1.0.2",
		"process":    object{"args": []string{"/bin/caisson", "help"}, "cwd": "/", "env": []string{asCommand + "=1"}},
		"root":       object{"path": "rootfs"},
		"mounts": []object{
			{"destination": "/proc", "type": "proc"}, {"destination": "/sys", "type": "sysfs", "options": []string{"ro"}},
			{"destination": "/dev", "type": "tmpfs"}, {"destination": "/dev/pts", "type": "devpts"},
			{"destination": "/dev/shm", "type": "tmpfs", "options": []string{"size=64m"}},
			{"destination": "/bin/caisson", "type": "bind", "source": exe, "options": []string{"rbind", "ro"}},
		},
		"linux": object{
			"namespaces":  []object{{"type": "mount"}, {"type": "pid"}},
			"personality": object{"domain": "LINUX32"},
		},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, runtimespec.ConfigFile), config, 0o600))

	out, errs, status := c.call("run", "--bundle", dir, "--pids-max", "50", "a")
	assert.Zero(t, status, errs)
	assert.Contains(t, out, "destroy")
	assert.Equal(t, "caisson: "+dir+": not in force: linux.personality LINUX32: the personality is the caller's\n", errs)

	_, errs, status = c.call("run", "--bundle", dir, "--hostname", "x", "a")
	assert.Equal(t, exitUsage, status, errs)
	_, errs, status = c.call("run", "--bundle", filepath.Join(dir, "rootfs"), "a")
	assert.Equal(t, exitUsage, status)
	assert.Contains(t, errs, "config.json")
}
