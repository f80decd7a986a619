// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const hostile = ") R 1 1 1\n(x"

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{
		// named waits for the end of its input, under a name that looks like
		// fields.
		"named": func([]string) int {
			if err := os.WriteFile("/proc/self/comm", []byte(hostile), 0); err != nil {
				return 1
			}
			fmt.Println("ready")
			_, _ = io.Copy(io.Discard, os.Stdin)
			return 0
		},
	})
}

// start runs the child until stop is called, which leaves a zombie.
func start(t *testing.T) (cmd *exec.Cmd, stop func()) {
	cmd = testutil.Child(t, "named")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	return cmd, func() { _ = in.Close() }
}

func TestReadStat(t *testing.T) {
	testutil.CheckLeaks(t)
	self, err := ReadStat(os.Getpid())
	require.NoError(t, err)
	assert.Equal(t, os.Getpid(), self.PID)
	assert.Equal(t, os.Getppid(), self.PPID)
	assert.NotZero(t, self.StartTime)

	cmd, stop := start(t)
	child, err := ReadStat(cmd.Process.Pid)
	require.NoError(t, err)
	assert.Equal(t, hostile, child.Comm)
	assert.Equal(t, os.Getpid(), child.PPID)
	assert.GreaterOrEqual(t, child.StartTime, self.StartTime)

	stop()
	var zombie Stat
	require.Eventually(t, func() bool {
		zombie, err = ReadStat(cmd.Process.Pid)
		return err != nil || zombie.State == 'Z'
	}, testutil.Patience(10*time.Second), time.Millisecond)
	require.NoError(t, err)
	assert.Equal(t, child.StartTime, zombie.StartTime)

	require.NoError(t, cmd.Wait())
	_, err = StartTime(cmd.Process.Pid)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, fmt.Sprintf("open /proc/%d/stat: ", cmd.Process.Pid))
}

func TestPIDOf(t *testing.T) {
	testutil.CheckLeaks(t)
	cmd, stop := start(t)
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)

	pid, err := PIDOf(pidfd)
	require.NoError(t, err)
	assert.Equal(t, cmd.Process.Pid, pid)
	require.NoError(t, Exists(pidfd))
	stop()
	require.NoError(t, cmd.Wait())
	_, err = PIDOf(pidfd)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorIs(t, err, syscall.ESRCH)
	assert.ErrorIs(t, Exists(pidfd), os.ErrNotExist)

	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	_, err = PIDOf(int(null.Fd()))
	assert.ErrorContains(t, err, "not a pidfd")
	assert.ErrorIs(t, Exists(int(null.Fd())), syscall.EBADF)
	_, err = PIDOf(-1)
	assert.ErrorIs(t, err, syscall.EBADF)
	_, err = PIDOf(1 << 30)
	assert.ErrorIs(t, err, syscall.EBADF)
}

func TestBootID(t *testing.T) {
	id, err := BootID()
	require.NoError(t, err)
	again, err := BootID()
	require.NoError(t, err)
	assert.Equal(t, id, again)
}

func TestOpenNS(t *testing.T) {
	testutil.CheckLeaks(t)
	fd, err := OpenNS("/proc/self/ns/uts", true)
	require.NoError(t, err)
	defer unix.Close(fd)
	flag, err := NSType(fd)
	require.NoError(t, err)
	assert.Equal(t, unix.CLONE_NEWUTS, flag)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	assert.Equal(t, unix.FD_CLOEXEC, flags)
	dev, ino, err := DevIno(fd)
	require.NoError(t, err)
	pathDev, pathIno, err := PathDevIno("/proc/self/ns/uts")
	require.NoError(t, err)
	assert.Equal(t, [2]uint64{dev, ino}, [2]uint64{pathDev, pathIno})

	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("/proc/self/ns/uts", link))
	for _, path := range []string{pipe, dir, "/dev/null", link, "/proc/self/ns", "/proc/self/ns/uts"} {
		_, err := OpenNS(path, false)
		assert.ErrorIs(t, err, ErrNotNamespace, path)
	}
	_, err = OpenNS(filepath.Join(dir, "none"), false)
	assert.ErrorIs(t, err, os.ErrNotExist)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	_, err = NSType(int(null.Fd()))
	assert.ErrorIs(t, err, ErrNotNamespace)
}
