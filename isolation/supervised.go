// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/supervise"
)

// supervisorGroup is where the supervisor is, below the parent group. No sandbox
// can have this name.
const supervisorGroup = "_supervisor"

// supervision is the driver's way to the supervisor of its state directory.
type supervision struct {
	args   []string          // that start one; none: only one that is there is asked
	client *supervise.Client // nil: none is wanted, and there never was one
	parent *parent
	engine *elastic.Engine

	mu    sync.Mutex    // one start at a time
	child *launch.Child // the supervisor that this process has started, if it has
}

func newSupervision(cfg Config, parent *parent, engine *elastic.Engine) *supervision {
	v := &supervision{args: slices.Clone(cfg.Supervisor), parent: parent, engine: engine}
	dir := filepath.Join(cfg.Root, "supervisor")
	_, err := os.Lstat(dir)
	if len(v.args) > 0 || err == nil {
		v.client = supervise.NewClient(dir)
	}
	return v
}

// open finds the supervisor, if one runs.
func (v *supervision) open(ctx context.Context) error {
	if v.client == nil {
		return nil
	}
	ctx, cancel := supervise.Patient(ctx)
	defer cancel()
	_, _, err := v.client.Connect(ctx)
	if errors.Is(err, supervise.ErrNone) {
		return nil
	}
	return err
}

// wanted reports whether processes are to be the supervisor's children.
func (v *supervision) wanted() bool { return len(v.args) > 0 }

// ensure finds the supervisor or starts one, and returns its pid. Hosts that share
// their directory take turns.
func (v *supervision) ensure(ctx context.Context) (pid int, err error) {
	ctx, cancel := supervise.Patient(ctx)
	defer cancel()
	v.mu.Lock()
	defer v.mu.Unlock()
	pid, _, err = v.client.Connect(ctx)
	if !errors.Is(err, supervise.ErrNone) {
		return pid, err
	}
	if !v.wanted() {
		return 0, &UnsupportedError{Feature: "a supervisor", Reason: "none runs, and Config.Supervisor names none to start", Err: err}
	}
	g, err := v.parent.openOne(v.parent.name + "/" + supervisorGroup)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	join, err := g.Join()
	if err != nil {
		return 0, err
	}
	spec := launch.Spec{Tasks: tasks(join.Tasks)}
	if join.Unified >= 0 {
		spec.Cgroup = &launch.File{FD: join.Unified, Path: "cgroup"}
	}
	child, err := v.client.Start(ctx, v.args, spec)
	if err != nil {
		return 0, err
	}
	// As long as it is this process's child, somebody has to wait for it.
	v.child = child
	_, err = v.engine.OnExit(child.PIDFD.Int(), func() { _ = reap(child) })
	return child.PID, errors.Join(err, g.CloseJoin())
}

// process is the first process as the supervisor calls it.
func (b *box) process() supervise.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return supervise.Process{PID: b.saved.PID, Inode: b.saved.Inode, Since: b.saved.Since}
}

// find tells which process a Start that was cut off has left.
func (v *supervision) find(ctx context.Context, id string) (p supervise.Process, found bool, err error) {
	if v.client == nil {
		return p, false, nil
	}
	p, err = v.client.Find(ctx, id)
	if nobody(err) {
		return p, false, nil
	}
	return p, err == nil, err
}

// exit waits for the end of a process. told is false if nobody can tell.
func (v *supervision) exit(ctx context.Context, id string, p supervise.Process) (st ExitStatus, told bool, err error) {
	if v.client == nil {
		return st, false, nil
	}
	exit, err := v.client.Exit(ctx, id, p)
	if nobody(err) {
		return st, false, nil
	}
	if err != nil || !exit.Known {
		return ExitStatus{At: exit.At}, false, err
	}
	return known(exit.Code, syscall.Signal(exit.Signal), exit.At), true, nil
}

// nobody reports whether err says that there is no answer to be had.
func nobody(err error) bool {
	return errors.Is(err, supervise.ErrUnknown) || errors.Is(err, supervise.ErrNone) || errors.Is(err, supervise.ErrGone)
}

// ack says that the record has the exit status. If that fails, the next host does.
func (v *supervision) ack(id string, p supervise.Process) {
	if v.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reaperPatience)
	defer cancel()
	_ = v.client.Ack(ctx, id, p)
}

// forget says that there is no such sandbox any more. If that fails, the next host
// does.
func (v *supervision) forget(ctx context.Context, id string) {
	if v.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reaperPatience)
	defer cancel()
	_ = v.client.Forget(ctx, id)
}

// sweep lets go of what belongs to no sandbox, and of exit statuses that records
// have. exited are the sandboxes that have ended.
func (v *supervision) sweep(ctx context.Context, ids []string, exited map[string]supervise.Process) error {
	if v.client == nil {
		return nil
	}
	ctx, cancel := supervise.Patient(ctx)
	defer cancel()
	list, err := v.client.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range list {
		sandbox, _ := supervise.Owner(e.ID)
		switch p, ended := exited[e.ID]; {
		case !slices.Contains(ids, sandbox):
			err = errors.Join(err, v.client.Forget(ctx, e.ID))
		case ended && e.Ended && !e.Acked:
			if aerr := v.client.Ack(ctx, e.ID, p); !nobody(aerr) {
				err = errors.Join(err, aerr)
			}
		}
	}
	return err
}

// remove ends the supervisor, once there are no sandboxes, and takes its directory
// away.
func (v *supervision) remove(ctx context.Context) error {
	if v.client == nil {
		return nil
	}
	if err := v.sweep(ctx, nil, nil); err != nil { // what could not be forgotten in time
		return err
	}
	return v.client.Remove(ctx)
}

// close comes behind that of the engine.
func (v *supervision) close() error {
	if v == nil || v.client == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return errors.Join(v.client.Close(), reap(v.child))
}

// reap lets go of a supervisor that was started here, whether or not it has ended.
func reap(child *launch.Child) error {
	if child == nil {
		return nil
	}
	_, _, _ = child.Reap()
	return child.PIDFD.Close()
}

// recoverSupervised lets the supervisor know what the records have.
func (h *Host) recoverSupervised(ctx context.Context) error {
	ids, err := h.dir.Names()
	if err != nil {
		return err
	}
	exited := make(map[string]supervise.Process)
	h.mu.Lock()
	for id, s := range h.sandboxes {
		if b := boxOf(s.c); b != nil && b.state() == StateExited {
			exited[id] = b.process()
		}
	}
	h.mu.Unlock()
	return h.native.supervisor.sweep(ctx, ids, exited)
}
