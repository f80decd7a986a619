// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/supervisor"
	"github.com/caisson-run/caisson/isolationtest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if code, ok := isolationtest.Workload(); ok {
		os.Exit(code)
	}
	testutil.Main(m, map[string]func([]string) int{
		"exit":       childExit,
		"look":       childLook,
		"escape":     childEscape,
		"view":       childView,
		"stat":       childStat,
		"wait":       childWait,
		"unmap":      childUnmap,
		"halves":     childHalves,
		"hog":        childHog,
		"creep":      childCreep,
		"forks":      childForks,
		"agent":      childAgent,
		"serve":      childServe,
		"net-agent":  childNetAgent,
		"net-root":   childNetRoot,
		"flood":      childFlood,
		"reaper":     childReaper,
		"trace":      childTrace,
		"leave":      childLeave,
		"exec-agent": childExecAgent,
		"fill":       childFill,
		"ordinary":   childOrdinary,
		"count":      childCount,
		"supervise":  func([]string) int { return supervisor.Main() },
		"keeper":     childKeeper,
		"talk":       childTalk,
		"spin": func([]string) int {
			for {
				_ = rand.Int()
			}
		},
		"whoami": func([]string) int {
			host, _ := os.Hostname()
			dir, _ := os.Getwd()
			fmt.Printf("pid=%d uid=%d gid=%d host=%s dir=%s env=%v\n", os.Getpid(), os.Getuid(), os.Getgid(), host, dir, os.Environ())
			return 0
		},
	})
}

// childCount writes so many lines, and stays if there is another argument.
func childCount(args []string) int {
	n, _ := strconv.Atoi(args[0])
	for i := range n {
		fmt.Println("line", i)
	}
	if len(args) > 1 {
		return pause()
	}
	return 0
}

// childExit ends with the status that it was given, or by the signal.
func childExit(args []string) int {
	n, _ := strconv.Atoi(args[0])
	if n > 128 {
		_ = syscall.Kill(syscall.Getpid(), syscall.Signal(n-128))
		return pause()
	}
	return n
}

// childWait says that it is there and waits for the end of its input, or of
// its life.
func childWait([]string) int {
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return pause()
}

// childUnmap is in the kernel nearly all of the time: it maps memory, has it
// cleared, and gives it back.
func childUnmap([]string) int {
	for {
		b, err := syscall.Mmap(-1, 0, 8<<20, syscall.PROT_READ|syscall.PROT_WRITE,
			syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS|syscall.MAP_POPULATE)
		if err != nil || syscall.Munmap(b) != nil {
			return 1
		}
	}
}

// childHalves has args[0] MiB of memory, reads one half again and again, and writes
// a line for each round of that. The other half it never uses again.
func childHalves(args []string) int {
	mib, _ := strconv.Atoi(args[0])
	b := make([]byte, mib<<20)
	for i := 0; i < len(b); i += 512 {
		b[i] = byte(i>>9) | 1 // pages that differ
	}
	hot, sum := b[:len(b)/2], byte(0)
	var used syscall.Rusage
	for {
		for range 8 {
			for i := 0; i < len(hot); i += 64 {
				sum += hot[i]
			}
		}
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
		if _, err := fmt.Println(used.Utime.Nano()+used.Stime.Nano(), sum); err != nil {
			return 1
		}
	}
}

// pause waits for a signal. (An empty select ends a program without other
// goroutines.)
func pause() int {
	for {
		time.Sleep(time.Hour)
	}
}

// childHog takes memory until somebody stops it.
func childHog([]string) int {
	var kept [][]byte
	for {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
		if len(kept) > 4096 {
			return 0
		}
	}
}

// childCreep takes memory at a steady rate of args[0] MiB a second.
func childCreep(args []string) int {
	rate, _ := strconv.Atoi(args[0])
	fmt.Println("ready")
	var kept [][]byte
	for range time.Tick(time.Second / time.Duration(rate)) {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		if kept = append(kept, block); len(kept) > 4096 {
			return 0
		}
	}
	return 0
}

// childForks starts copies of a sleeper until the kernel refuses.
func childForks(args []string) int {
	for range 1000 {
		if _, err := os.StartProcess("/proc/self/exe", []string{"x", os.Args[1], "wait"}, &os.ProcAttr{
			Files: []*os.File{os.Stdin, nil, nil},
		}); err != nil {
			fmt.Println("refused")
			return pause()
		}
	}
	return 0
}

// childAgent is an agent of its own: it opens the host of args[0] and
// args[1], creates and starts sandbox args[2], and waits to be killed.
func childAgent(args []string) int {
	ctx := context.Background()
	h, err := isolation.Open(ctx, isolation.Config{Root: args[0], Parent: args[1]})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s, err := h.Create(ctx, isolation.Spec{
		ID:        args[2],
		Labels:    map[string]string{"made": "before"},
		Process:   isolation.Process{Args: append([]string{os.Args[0], os.Args[1]}, args[3:]...)},
		Resources: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(100)}},
	})
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("started")
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	return 0
}

// childReaper runs the child that args names until it says a line, repeats the
// line, kills it, and from then on waits for whoever the dead one leaves behind,
// as an init does.
func childReaper(args []string) int {
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		fmt.Println(errno)
		return 1
	}
	cmd := exec.Command(os.Args[0], append([]string{os.Args[1]}, args...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	fmt.Print(line)
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
			return 0
		}
	}
}

// config is that of a host of the test's own.
func config(t testing.TB) isolation.Config {
	t.Helper()
	testutil.Require(t, testutil.Root)
	return isolation.Config{Root: t.TempDir() + "/state", Parent: testutil.CgroupName(t)}
}

// open opens a host that is gone, with everything of it, when the test ends.
func open(t testing.TB) *isolation.Host {
	t.Helper()
	return openWith(t, config(t))
}

func openWith(t testing.TB, cfg isolation.Config) *isolation.Host {
	t.Helper()
	h, err := isolation.Open(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		for s := range h.Sandboxes(nil) {
			require.NoError(t, s.Destroy(deadline(t)))
		}
		require.NoError(t, h.Remove(deadline(t)))
		require.NoError(t, h.Close())
	})
	return h
}

// deadline bounds one operation of a test; it says nothing about speed.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
	t.Cleanup(cancel)
	return ctx
}

// spec is a sandbox that runs the named child of this test binary.
func spec(t testing.TB, id, child string, args ...string) isolation.Spec {
	t.Helper()
	return isolation.Spec{ID: id, Process: isolation.Process{Args: testutil.ChildArgs(t, child, args...)}}
}

func create(t testing.TB, h *isolation.Host, s isolation.Spec) *isolation.Sandbox {
	t.Helper()
	box, err := h.Create(deadline(t), s)
	require.NoError(t, err)
	return box
}

// started creates and starts a sandbox whose child says that it is ready.
func started(t testing.TB, h *isolation.Host, s isolation.Spec) *isolation.Sandbox {
	t.Helper()
	box := create(t, h, s)
	out := run(t, box)
	line := make([]byte, 6)
	_, err := io.ReadFull(out, line)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(line))
	return box
}

// run starts the sandbox with a pipe as its standard output.
func run(t testing.TB, box *isolation.Sandbox) *os.File {
	t.Helper()
	r, err := tryRun(t, box)
	require.NoError(t, err)
	return r
}

// tryRun is run that may fail.
func tryRun(t testing.TB, box *isolation.Sandbox) (*os.File, error) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	err = box.Start(deadline(t), nil, w, os.Stderr)
	require.NoError(t, w.Close())
	return r, err
}
