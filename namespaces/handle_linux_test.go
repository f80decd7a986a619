// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestHandle(t *testing.T) {
	testutil.CheckLeaks(t)
	for kind := range AllKinds.All() {
		link, err := os.Readlink("/proc/self/ns/" + kind.String())
		h, openErr := OpenPID(os.Getpid(), kind)
		if os.IsNotExist(err) {
			assert.ErrorIs(t, openErr, ErrNotSupported)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, openErr)
		assert.Equal(t, link, h.String())
		assert.Equal(t, link, h.ID().String())
		assert.Equal(t, kind, h.Kind())
		assert.Equal(t, current(t, kind), h.ID())
		id, err := IDOf(os.Getpid(), kind)
		require.NoError(t, err)
		assert.Equal(t, h.ID(), id)
		flags, err := unix.FcntlInt(uintptr(h.FD()), unix.F_GETFD, 0)
		require.NoError(t, err)
		assert.Equal(t, unix.FD_CLOEXEC, flags)

		require.NoError(t, h.Close())
		require.NoError(t, h.Close())
		assert.Equal(t, -1, h.FD())
		assert.Equal(t, id, h.ID(), "stays")
	}
	assert.NoError(t, (*Handle)(nil).Close())
}

func TestHandleOfAnother(t *testing.T) {
	testutil.CheckLeaks(t)
	kinds := KindsOf(Network, UTS)
	if os.Geteuid() != 0 {
		testutil.Require(t, testutil.UserNamespaces)
		kinds = kinds.With(KindsOf(User))
	}
	cmd, stop := holder(t, kinds)
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)

	h := open(t, cmd, Network)
	assert.NotEqual(t, current(t, Network), h.ID())
	byFD, err := OpenPIDFD(pidfd, Network)
	require.NoError(t, err)
	assert.Equal(t, h.ID(), byFD.ID())
	require.NoError(t, byFD.Close())

	user, err := h.UserNS()
	require.NoError(t, err)
	want, err := IDOf(cmd.Process.Pid, User)
	require.NoError(t, err)
	assert.Equal(t, want, user.ID())
	require.NoError(t, user.Close())

	pid := cmd.Process.Pid
	stop()
	for _, open := range []func() (*Handle, error){
		func() (*Handle, error) { return OpenPID(pid, Network) },
		func() (*Handle, error) { return OpenPIDFD(pidfd, Network) },
		func() (*Handle, error) { _, err := IDOf(pid, Network); return nil, err },
	} {
		got, err := open()
		assert.ErrorIs(t, err, os.ErrNotExist)
		assert.Nil(t, got)
	}
	if os.Geteuid() == 0 {
		assert.NoError(t, Do(func() error { return nil }, h), "held beyond the process")
	}
}

func TestHandleOfZombie(t *testing.T) {
	testutil.CheckLeaks(t)
	cmd, _ := holder(t, 0)
	require.NoError(t, cmd.Process.Kill())
	require.NoError(t, unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
	h, err := OpenPID(cmd.Process.Pid, Network)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.Nil(t, h)
}

func TestHandleRefuses(t *testing.T) {
	testutil.CheckLeaks(t)
	for _, kind := range []Kind{0, Time + 1} {
		_, err := OpenPID(1, kind)
		assert.ErrorIs(t, err, ErrInvalid)
		_, err = Current(kind)
		assert.ErrorIs(t, err, ErrInvalid)
		_, err = IDOf(1, kind)
		assert.ErrorIs(t, err, ErrInvalid)
	}
	for _, pid := range []int{0, -1} {
		_, err := OpenPID(pid, Network)
		assert.ErrorIs(t, err, ErrInvalid)
		_, err = IDOf(pid, Network)
		assert.ErrorIs(t, err, ErrInvalid)
	}
	_, err := OpenPID(1<<30, Network) // above pid_max
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.EqualError(t, err, "open /proc/1073741824/ns/net: no such file or directory")
	_, err = OpenPIDFD(-1, Network)
	assert.ErrorIs(t, err, syscall.EBADF)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	_, err = OpenPIDFD(int(null.Fd()), Network)
	assert.ErrorContains(t, err, "not a pidfd")
}

func TestOpenPath(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Symlink("/proc/self/ns/net", link))
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	for _, path := range []string{file, link, pipe, dir, "/dev/null", "/proc/self/ns/net"} {
		h, err := OpenPath(path)
		assert.ErrorIs(t, err, ErrNotNamespace, path)
		assert.Nil(t, h)
	}
	_, err := OpenPath(link)
	assert.EqualError(t, err, "open "+link+": a symbolic link: not a namespace")
	_, err = OpenPath(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = OpenPath("")
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = OpenPath(file + "\x00")
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = OpenPath("/" + strings.Repeat("x", 5000))
	assert.ErrorIs(t, err, syscall.ENAMETOOLONG)
}

func TestOpenPathMounted(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root)
	path := filepath.Join(t.TempDir(), "net")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	cmd, stop := holder(t, KindsOf(Network))
	require.NoError(t, unix.Mount(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), path, "", unix.MS_BIND, ""))
	defer func() { require.NoError(t, unix.Unmount(path, unix.MNT_DETACH)) }()
	want := open(t, cmd, Network).ID()
	stop()
	h, err := OpenPath(path)
	require.NoError(t, err)
	defer h.Close()
	assert.Equal(t, want, h.ID())
	require.NoError(t, Do(func() error {
		assert.Equal(t, want, current(t, Network))
		return nil
	}, h))
}

func TestRelated(t *testing.T) {
	testutil.CheckLeaks(t)
	net, err := Current(Network)
	require.NoError(t, err)
	_, err = net.Parent()
	assert.ErrorIs(t, err, ErrNotSupported)
	require.NoError(t, net.Close())
	_, err = net.UserNS()
	assert.ErrorIs(t, err, os.ErrClosed)

	user, err := Current(User)
	require.NoError(t, err)
	defer user.Close()
	_, err = user.Parent()
	assert.ErrorIs(t, err, os.ErrPermission, "there is none that we may see")

	testutil.Require(t, testutil.UserNamespaces)
	cmd, _ := holder(t, KindsOf(User, PID))
	inner := open(t, cmd, User)
	parent, err := inner.Parent()
	require.NoError(t, err)
	assert.Equal(t, user.ID(), parent.ID())
	require.NoError(t, parent.Close())
	pid := open(t, cmd, PID)
	parent, err = pid.Parent()
	require.NoError(t, err)
	assert.Equal(t, current(t, PID), parent.ID())
	require.NoError(t, parent.Close())
}

func TestOpenPIDUnprivileged(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged)
	_, err := OpenPID(1, Network)
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.EqualError(t, err, "open /proc/1/ns/net: permission denied")
}

// Branches that need another kernel, or a process that ends at the right moment.
func TestExplain(t *testing.T) {
	const gone = "/proc/1073741824"
	err := explain(gone, gone+"/ns/net", Network, syscall.EACCES)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.NotErrorIs(t, err, os.ErrPermission)

	err = explain("/proc/self", "/proc/self/ns/kind(0)", 0, syscall.ENOENT)
	assert.EqualError(t, err, "kind(0) namespaces: not supported: this kernel has none: "+
		"open /proc/self/ns/kind(0): no such file or directory")
	assert.ErrorIs(t, err, ErrNotSupported)
}
