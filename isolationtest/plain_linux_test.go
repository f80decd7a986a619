// SPDX-License-Identifier: Apache-2.0

package isolationtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolationtest"
	"github.com/stretchr/testify/require"
)

// plain is a driver as a third party writes one: the three calls and no more, with
// what this module exports. A sandbox is a process in a group, on the machine's own
// files and namespaces. It holds no descriptors, so that there is nothing to release.
type plain struct {
	root *cgroups.Root
}

// plainState is what has to be known again.
type plainState struct {
	PID   int                   `json:"pid"`
	Since string                `json:"since"` // its start time
	Exit  *isolation.ExitStatus `json:"exit,omitempty"`
}

// plainBox is a sandbox in this process.
type plainBox struct {
	first plainState
	exit  atomic.Pointer[isolation.ExitStatus]
	over  chan struct{} // closed when exit is set; nil for a process of an earlier driver
}

func (d plain) Create(ctx context.Context, c *isolation.Container) (err error) {
	if !c.Spec.Root.IsZero() || c.Spec.Process.Terminal || c.Spec.Process.Reaper {
		return &isolation.UnsupportedError{Feature: "root, terminal, reaper", Reason: "this driver starts a process, and that is all"}
	}
	if c.Spec.Logs != nil || !c.Spec.Network.IsZero() {
		return &isolation.UnsupportedError{Feature: "logs, network", Reason: "nor is it told of what the host makes around it"}
	}
	g, err := d.root.CreateWith(ctx, c.GroupPath(), c.Spec.Controllers, c.Spec.Resources)
	if err != nil {
		return err
	}
	cmd, err := gated(ctx, g, c.Spec.Process)
	if err != nil {
		return errors.Join(err, g.Destroy(context.WithoutCancel(ctx)), g.Close())
	}
	b := &plainBox{over: make(chan struct{}), first: plainState{PID: cmd.Process.Pid, Since: since(cmd.Process.Pid)}}
	err = errors.Join(c.Save(b.first), g.Close())
	c.Private = b
	go func() {
		_ = cmd.Wait() // the status tells
		st := isolation.ExitStatus{Known: true, Code: cmd.ProcessState.ExitCode(), At: time.Now()}
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			st.Signal, st.Code = int(ws.Signal()), 128+int(ws.Signal())
		}
		saved := b.first
		saved.Exit = &st
		_ = c.Save(saved) // nobody is there to be told
		b.exit.Store(&st)
		close(b.over)
	}()
	if err != nil {
		err = errors.Join(err, d.Destroy(context.WithoutCancel(ctx), c))
	}
	return err
}

func (d plain) Destroy(ctx context.Context, c *isolation.Container) error {
	g, err := d.root.Open(c.GroupPath())
	switch {
	case err == nil:
		g.Own()
		if err := errors.Join(g.Destroy(ctx), g.Close()); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if b, _ := c.Private.(*plainBox); b != nil && b.over != nil {
		select {
		case <-b.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (d plain) Check(_ context.Context, c *isolation.Container) (isolation.Status, error) {
	b, _ := c.Private.(*plainBox)
	if b == nil { // made by an earlier process; the host's first call, and alone
		b = &plainBox{}
		if ok, err := c.Saved(&b.first); err != nil || !ok {
			return isolation.Status{}, errors.Join(err, isolation.ErrNotFound)
		}
		if b.first.Exit != nil {
			b.exit.Store(b.first.Exit)
		}
		c.Private = b
	}
	g, err := d.root.Open(c.GroupPath())
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", isolation.ErrNotFound, err)
	}
	if err != nil {
		return isolation.Status{}, err
	}
	defer g.Close()
	pids, err := g.Procs(nil)
	if errors.Is(err, cgroups.ErrGone) {
		err = fmt.Errorf("%w: %w", isolation.ErrNotFound, err)
	}
	if err != nil {
		return isolation.Status{}, err
	}
	if b.over == nil && b.exit.Load() == nil && since(b.first.PID) != b.first.Since {
		b.exit.CompareAndSwap(nil, &isolation.ExitStatus{At: time.Now()})
	}
	st := isolation.Status{State: isolation.StateRunning, PID: b.first.PID, PIDs: len(pids), Cgroup: g.Path()}
	if st.Exit = b.exit.Load(); st.Exit != nil {
		st.State, st.PID = isolation.StateExited, 0
	}
	return st, nil
}

// since is the start time of a process; "" if there is none, or if it has ended and
// nobody has waited for it.
func since(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 20 || f[0] == "Z" {
		return ""
	}
	return f[19]
}

// gate is the first argument of this binary as what [gated] starts.
const gate = "plain-gate"

// gated starts a process that becomes p once it is in the group.
func gated(ctx context.Context, g *cgroups.Cgroup, p isolation.Process) (cmd *exec.Cmd, err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd = exec.Command(exe, append([]string{gate}, p.Args...)...)
	cmd.Dir, cmd.Env = "/", append([]string{}, p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	opens, open, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer opens.Close()
	failure, fails, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, open.Close())
	}
	defer failure.Close()
	cmd.ExtraFiles = []*os.File{opens, fails}
	err = cmd.Start()
	_ = fails.Close()
	if err != nil {
		return nil, errors.Join(err, open.Close())
	}
	err = g.Add(ctx, cmd.Process.Pid)
	if err == nil {
		_, err = open.Write([]byte{1})
	}
	_ = open.Close()
	if text, rerr := io.ReadAll(failure); rerr == nil && len(text) > 0 {
		err = errors.Join(err, errors.New(string(text)))
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return cmd, err
}

// pass is the process at the gate.
func pass(args []string) int {
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	if n, _ := os.NewFile(3, "gate").Read(make([]byte, 1)); n != 1 {
		return 1
	}
	err := syscall.Exec(args[0], args, os.Environ())
	fmt.Fprintf(os.NewFile(4, "failure"), "execute %q: %v", args[0], err)
	return 1
}

// TestPlain: three calls are a driver.
func TestPlain(t *testing.T) {
	testutil.Require(t, testutil.Real)
	isolationtest.Driver(t, func(t testing.TB, _ isolationtest.Place) isolation.Driver {
		root, err := cgroups.Open("")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, root.Close()) })
		return plain{root}
	}, isolationtest.DriverOptions{
		Refused: map[string]func(*isolation.Spec){
			"root": func(s *isolation.Spec) { s.Root.Path = "/" },
		},
	})
}
