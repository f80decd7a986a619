// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/supervise"
)

// startSupervised has the supervisor clone the process. One that is at its end when
// it is asked is not to be told from one that is well, so another one is asked; that
// has a limit, lest a request that no supervisor survives ends one after the other.
func (d *nativeDriver) startSupervised(ctx context.Context, c *Container, b *box, files []*os.File) error {
	again, err := d.startBySupervisor(ctx, c, b, files)
	if again {
		_, err = d.startBySupervisor(ctx, c, b, files)
	}
	return err
}

// startBySupervisor finds the supervisor, or starts one, and asks it. again says that
// it has ended, and that the program has not run and will not.
func (d *nativeDriver) startBySupervisor(ctx context.Context, c *Container, b *box, files []*os.File) (again bool, err error) {
	pid, err := d.supervisor.ensure(ctx)
	if err != nil {
		return false, err
	}
	l, err := d.launch(c, files, pid)
	if err == nil {
		err = d.lend(l)
	}
	if err != nil {
		return false, err
	}
	spec, done, err := l.lower(d.low)
	if err != nil {
		return false, err
	}
	defer done()
	birth := -1
	for _, ns := range l.Join {
		if l.bornIn(ns) {
			birth = ns.FD()
		}
	}
	saved := b.saved
	saved.Starting = true
	if err := c.Save(saved); err != nil {
		return false, err
	}
	var child *launch.Child
	var process supervise.Process
	if err = d.keepLog(ctx, c); err == nil {
		child, process, err = d.supervisor.client.Launch(ctx, c.Spec.ID, &spec, birth)
	} else if nobody(err) {
		err = supervise.ErrNone
	}
	if err == nil {
		return false, d.started(ctx, c, b, child, &process)
	}
	again = errors.Is(err, supervise.ErrNone)
	if again || errors.Is(err, supervise.ErrLost) { // whoever is there is its child
		eerr := d.endAll(context.WithoutCancel(ctx), c.home())
		again, err = again && eerr == nil, errors.Join(err, eerr)
	}
	return again, errors.Join(invalid(err), c.Save(b.saved))
}

// keptLog is the name by which the supervisor keeps the pipes of a log that makes the
// workload wait: what is in them would be lost with the last process that has them.
const keptLog = "_log"

// keepLog leaves them there.
func (d *nativeDriver) keepLog(ctx context.Context, c *Container) error {
	if c.written == nil || c.written.stdout == nil || !c.Spec.Logs.Block {
		return nil // or an earlier Start got as far as to give them up
	}
	var fds [2]int
	for i, f := range []*os.File{c.written.stdout, c.written.stderr} {
		var err error
		if fds[i], err = rawFD(f); err != nil {
			return err
		}
	}
	return d.supervisor.client.Keep(ctx, c.Spec.ID, keptLog, fds[:])
}

// execBySupervisor has the supervisor clone a further process. What one that ends in
// the midst of it leaves behind does not come to its program.
func (d *nativeDriver) execBySupervisor(ctx context.Context, c *Container, e *Exec, l *Launch) (*launch.Child, error) {
	if err := d.lend(l); err != nil {
		return nil, err
	}
	spec, done, err := l.lower(d.low)
	if err != nil {
		return nil, err
	}
	defer done()
	id := supervise.Further(c.Spec.ID, e.id)
	child, process, err := d.supervisor.client.Launch(ctx, id, &spec, -1)
	if errors.Is(err, supervise.ErrNone) {
		if _, err = d.supervisor.ensure(ctx); err == nil {
			child, process, err = d.supervisor.client.Launch(ctx, id, &spec, -1)
		}
	}
	e.process = process
	return child, invalid(err)
}

// endAll ends the processes of a group that stays in use.
func (d *nativeDriver) endAll(ctx context.Context, g *cgroups.Cgroup) error {
	for {
		pids, err := g.Procs(nil)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			since, err := linux.StartTime(pid)
			if err == nil {
				err = d.endOne(ctx, pid, since)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
}

// askSupervisor is how a process, which has ended, did so. It takes as long as a
// supervisor that is stopped, unless the sandbox is being destroyed. asked is false if
// the sandbox was let go meanwhile.
func (d *nativeDriver) askSupervisor(b *box, id string, p supervise.Process) (st ExitStatus, told, asked bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-b.released:
		case <-ctx.Done():
		case <-b.hurry:
			timer := time.NewTimer(reaperPatience)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-b.released:
			case <-ctx.Done():
			}
		}
	}()
	st, told, _ = d.supervisor.exit(ctx, id, p)
	return st, told, !isClosed(b.released)
}

// Keep leaves copies of descriptors with the supervisor.
func (d *nativeDriver) Keep(ctx context.Context, c *Container, name string, files []*os.File) error {
	if err := d.keeps(); err != nil {
		return err
	}
	if name == keptLog {
		return &InvalidError{Field: "name", Value: name, Reason: "the library's own"}
	}
	fds := make([]int, len(files))
	for i, f := range files {
		if f == nil {
			return &InvalidError{Field: "files", Reason: "nil is no descriptor"}
		}
		var err error
		if fds[i], err = rawFD(f); err != nil {
			return err
		}
	}
	for again := true; ; again = false {
		if _, err := d.supervisor.ensure(ctx); err != nil {
			return err
		}
		err := d.supervisor.client.Keep(ctx, c.Spec.ID, name, fds)
		if !again || !nobody(err) { // or it was at its end, and another one keeps it as well
			return invalid(err)
		}
	}
}

// Kept gives copies of what was kept.
func (d *nativeDriver) Kept(ctx context.Context, c *Container, name string) ([]*os.File, error) {
	if err := d.keeps(); err != nil {
		return nil, err
	}
	fds, err := d.supervisor.client.Kept(ctx, c.Spec.ID, name)
	if err != nil {
		if nobody(err) {
			return nil, nil
		}
		return nil, invalid(err)
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return files, nil
}

func (d *nativeDriver) keeps() error {
	if d.supervisor.client != nil {
		return nil
	}
	return &UnsupportedError{Feature: "keeping descriptors", Reason: "the host has no Config.Supervisor"}
}

// invalid is err, matched by [ErrInvalid] if it is a refusal.
func invalid(err error) error {
	var refused *supervise.Refusal
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: %w", ErrInvalid, refused.Err)
	}
	return err
}
