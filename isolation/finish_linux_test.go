// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"encoding/binary"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// stuckMount is a file system whose server takes the first question about a file
// and never answers: whoever asked waits, and no signal ends that. asked is closed
// once somebody waits, and free lets him go.
func stuckMount(t *testing.T) (dir string, asked <-chan struct{}, free func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		testutil.Skip(t, "fuse", "%v", err)
	}
	dir = t.TempDir()
	options := "fd=" + strconv.Itoa(fd) + ",rootmode=40000,user_id=0,group_id=0"
	if err := unix.Mount("stuck", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		testutil.Skip(t, "fuse", "%v", err)
	}
	taken, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		const initialize = 26 // FUSE_INIT
		b := make([]byte, 1<<18)
		for {
			n, err := unix.Read(fd, b)
			if err == unix.EINTR || err == unix.ENOENT {
				continue
			}
			if err != nil || n < 40 {
				return
			}
			if binary.NativeEndian.Uint32(b[4:]) != initialize {
				close(taken)
				return
			}
			// struct fuse_out_header, then struct fuse_init_out of 7.31.
			out := binary.NativeEndian.AppendUint32(nil, 80)
			out = binary.NativeEndian.AppendUint32(out, 0)
			out = append(out, b[8:16]...)
			out = binary.NativeEndian.AppendUint32(out, 7)
			out = binary.NativeEndian.AppendUint32(out, 31)
			out = append(out, make([]byte, 12)...) // read-ahead, flags, background
			out = binary.NativeEndian.AppendUint32(out, 4096)
			out = binary.NativeEndian.AppendUint32(out, 1)
			out = append(out, make([]byte, 80-len(out))...)
			if _, err := unix.Write(fd, out); err != nil {
				return
			}
		}
	}()
	freed := false
	free = func() {
		if !freed {
			freed = true
			<-served
			_ = unix.Close(fd) // the kernel answers for a server that is gone
		}
	}
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		free()
	})
	return dir, taken, free
}

func childStat(args []string) int {
	_, _ = os.Stat(args[0])
	return pause()
}

// TestDestroyUninterruptible: a process that nothing ends makes Destroy fail by its
// deadline, with its pid and where it waits; and the sandbox is gone soon after it
// can be, without another call (fault 25).
func TestDestroyUninterruptible(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	h := openWith(t, cfg)
	dir, asked, free := stuckMount(t)
	s := spec(t, "stuck", "stat", dir+"/x")
	box := create(t, h, s)
	require.NoError(t, box.Start(deadline(t)))
	select {
	case <-asked:
	case <-time.After(testutil.Patience(20 * time.Second)):
		t.Fatal("nobody asked")
	}
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err = box.Destroy(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var left *cgroups.RemainingError
		require.ErrorAs(t, err, &left)
		require.NotEmpty(t, left.Processes)
		at := -1
		for i, p := range left.Processes {
			if p.State == "D" {
				at = i
			}
		}
		require.GreaterOrEqual(t, at, 0, "%v", err)
		assert.Equal(t, st.PID, left.Processes[at].PID)
		if wchan := left.Processes[at].Wchan; wchan != "" { // which a kernel may keep to itself
			assert.Contains(t, wchan, "wait", "%v", err)
			assert.ErrorContains(t, err, wchan)
		}
		assert.ErrorContains(t, err, strconv.Itoa(st.PID)+" (")
	}
	still, err := h.Check(deadline(t), "stuck")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateDestroying, still.State)
	free()
	require.Eventually(t, func() bool {
		_, err := h.Sandbox(t.Context(), "stuck")
		return err != nil
	}, testutil.Patience(20*time.Second), 5*time.Millisecond, "it finishes by itself")
	_, err = h.Sandbox(deadline(t), "stuck")
	assert.ErrorIs(t, err, isolation.ErrNotFound)
	require.NoError(t, box.Destroy(deadline(t)))
}

// TestCloseWhileDestroying: a host that is closed meanwhile does not wait, and the
// next one destroys what is left.
func TestCloseWhileDestroying(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	dir, asked, free := stuckMount(t)
	box := create(t, h, spec(t, "stuck", "stat", dir+"/x"))
	require.NoError(t, box.Start(deadline(t)))
	select {
	case <-asked:
	case <-time.After(testutil.Patience(20 * time.Second)):
		t.Fatal("nobody asked")
	}
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, box.Destroy(ctx))
	require.NoError(t, h.Close())
	free()
	h = openWith(t, cfg)
	require.NoError(t, h.Destroy(deadline(t), "stuck"))
	_, _ = unix.Wait4(st.PID, nil, unix.WALL, nil) // it was this process's child, of a host that is closed
}
