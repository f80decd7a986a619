// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

func init() { children["work"] = work }

// work obeys a line of its standard input at a time, and answers each with one:
// "spin DURATION" takes that much CPU time, "eat BYTES" fills memory and keeps
// it, "write FILE BYTES" writes to disk.
func work([]string) int {
	var kept [][]byte
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch f[0] {
		case "spin":
			d, _ := time.ParseDuration(f[1])
			// CPU time, not wall time: the machine may be busy.
			for start := cpuTime(); cpuTime()-start < d; {
			}
		case "eat":
			n, _ := strconv.Atoi(f[1])
			b := make([]byte, n)
			for i := 0; i < n; i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		case "write":
			n, _ := strconv.Atoi(f[2])
			file, err := os.OpenFile(f[1], os.O_CREATE|os.O_WRONLY|os.O_SYNC, 0o600)
			if err == nil {
				_, err = file.Write(make([]byte, n))
			}
			if err != nil {
				fmt.Println(err)
				return 1
			}
		}
		fmt.Println("done")
	}
	runtime.KeepAlive(kept)
	return 0
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// worker is a process of a group that works when told to.
type worker struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// newWorker starts a worker in c.
func newWorker(tb testing.TB, c *Cgroup) *worker {
	tb.Helper()
	w := &worker{Cmd: testutil.Child(tb, "work")}
	w.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off")
	var err error
	w.in, err = w.StdinPipe()
	require.NoError(tb, err)
	out, err := w.StdoutPipe()
	require.NoError(tb, err)
	w.out = bufio.NewScanner(out)
	require.NoError(tb, w.Start())
	require.NoError(tb, c.Add(tb.Context(), w.Process.Pid))
	return w
}

// do has the worker do something and waits until it is done.
func (w *worker) do(tb testing.TB, format string, args ...any) {
	tb.Helper()
	w.tell(tb, format, args...)
	require.True(tb, w.out.Scan(), "the worker ended: %v", w.out.Err())
	require.Equal(tb, "done", w.out.Text())
}

func (w *worker) tell(tb testing.TB, format string, args ...any) {
	tb.Helper()
	_, err := fmt.Fprintf(w.in, format+"\n", args...)
	require.NoError(tb, err)
}

// end stops the worker.
func (w *worker) end(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, w.in.Close())
	require.NoError(tb, w.Wait())
}
