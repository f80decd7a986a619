// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
)

func TestWriteIDMaps(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	child := testutil.Child(t, "hold")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	in, err := child.StdinPipe() // which keeps it
	require.NoError(t, err)
	require.NoError(t, child.Start())
	defer in.Close()
	pid := child.Process.Pid
	uids, gids := OwnIDMaps(3, 4)
	assert.ErrorIs(t, WriteIDMaps(pid, uids, nil), ErrInvalid)
	require.NoError(t, WriteIDMaps(pid, uids, gids))
	for file, want := range map[string]IDMaps{"uid_map": uids, "gid_map": gids} {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
		require.NoError(t, err)
		got, err := ParseIDMaps(string(text))
		require.NoError(t, err)
		assert.Equal(t, want, got, file)
	}
	setgroups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/setgroups")
	require.NoError(t, err)
	assert.Equal(t, map[bool]string{true: "allow", false: "deny"}[os.Geteuid() == 0], strings.TrimSpace(string(setgroups)))
	assert.ErrorIs(t, WriteIDMaps(pid, uids, gids), os.ErrPermission, "once filled, a map stays")

	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	assert.ErrorIs(t, WriteIDMaps(pid, uids, gids), os.ErrNotExist)
}

func TestSubIDs(t *testing.T) {
	uids, gids, _, err := SubIDs()
	require.NoError(t, err)
	assert.NoError(t, MapSubIDs(uint32(os.Geteuid()), uids).Validate())
	assert.NoError(t, MapSubIDs(uint32(os.Getegid()), gids).Validate())
}
