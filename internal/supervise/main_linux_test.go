// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{
		"supervise": func([]string) int {
			listener, dir, err := Inherited()
			if err == nil {
				err = Serve(context.Background(), listener, dir)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		},
		"exit": func(args []string) int { // once its input ends
			_, _ = os.Stdin.Read(make([]byte, 1))
			n, _ := strconv.Atoi(args[0])
			if n > 128 {
				_ = syscall.Kill(os.Getpid(), syscall.Signal(n-128))
				select {}
			}
			return n
		},
		"say":   func(args []string) int { fmt.Print(args[0]); return 0 },
		"other": func([]string) int { return 3 },
	})
}

// deadline bounds one test; it says nothing about speed.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
	t.Cleanup(cancel)
	return ctx
}

// supervised starts a supervisor that has ended when the test does, and gives a
// client of it.
func supervised(t testing.TB, dir string) (*Client, *launch.Child) {
	t.Helper()
	c := NewClient(dir)
	child, err := c.Start(deadline(t), testutil.ChildArgs(t, "supervise"), launch.Spec{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = c.Close()
		if err := waitEnd(deadline(t), child.PIDFD); err != nil {
			_ = sys.PidfdSignal(child.PIDFD.Int(), syscall.SIGKILL)
			t.Errorf("the supervisor did not end by itself: %v", err)
		}
		_, _ = child.Wait()
		_ = child.PIDFD.Close()
	})
	return c, child
}

// waiting is a process that ends as code says once in is closed.
func waiting(t testing.TB, c *Client, id string, code int) (p Process, in *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	t.Cleanup(func() { _ = w.Close() })
	args := testutil.ChildArgs(t, "exit", strconv.Itoa(code))
	child, p, err := c.Launch(deadline(t), id, &launch.Spec{Path: args[0], Args: args, Files: []int{int(r.Fd()), -1, 2}}, -1)
	require.NoError(t, err)
	require.Equal(t, child.PID, p.PID)
	require.NoError(t, child.PIDFD.Close())
	return p, w
}

// forgotten lets go of an id whose process has ended.
func forgotten(t testing.TB, c *Client, id string) {
	t.Helper()
	err := c.Forget(deadline(t), id)
	if !errors.Is(err, os.ErrClosed) {
		require.NoError(t, err)
	}
}
