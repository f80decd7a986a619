// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
)

// Start has libcontainer start its init in the group, holds it, and lets it go on
// to the program. If that fails, libcontainer removes the group, and another one is
// made: who holds that of [isolation.Sandbox.Cgroup] has to ask again.
func (d *Driver) Start(ctx context.Context, c *isolation.Container, files []*os.File) error {
	return life.Of(c).Start(ctx, c,
		func() error { return d.start(ctx, c, files) },
		func(ctx context.Context) error { return d.again(ctx, c) })
}

func (d *Driver) start(ctx context.Context, c *isolation.Container, files []*os.File) error {
	plan, err := convert(c)
	if err != nil {
		return err
	}
	own, err := newProcess(plan.process)
	if err != nil {
		return err
	}
	own.Init = true
	b, lc := life.Of(c), made(c)
	if lc == nil {
		// What an earlier agent has made of it was not started.
		if err := os.RemoveAll(d.dir(c.Spec.ID)); err != nil {
			return err
		}
		if lc, err = libcontainer.Create(d.cfg.Root, c.Spec.ID, plan.config); err != nil {
			return err
		}
		b.Made = lc
	}
	done, err := descriptors(own, files)
	if err != nil {
		return err
	}
	d.trees.Using.RLock()
	defer d.trees.Using.RUnlock()
	if err := d.trees.Note(c.GroupPath()); err != nil {
		return errors.Join(err, done())
	}
	// libcontainer knows no contexts. Without processes it comes to an end.
	g := c.Cgroup()
	stop := context.AfterFunc(ctx, func() { _ = g.Kill(context.WithoutCancel(ctx)) })
	defer stop()
	if err := errors.Join(lc.Start(own), done()); err != nil {
		return cut(ctx, err)
	}
	p, err := d.hold(own)
	if err != nil {
		return err
	}
	return cut(ctx, b.Run(c, p, func() error {
		if err := joinDetached(ctx, c, p.PID); err != nil {
			return err
		}
		return openFifo(ctx, filepath.Join(d.dir(c.Spec.ID), fifo), p)
	}))
}

// hold takes charge of a process that libcontainer has started.
func (d *Driver) hold(own *libcontainer.Process) (*life.Process, error) {
	pid, err := own.Pid()
	if err != nil {
		return nil, err
	}
	return life.Hold(&d.lives, pid, func() (syscall.WaitStatus, bool) {
		// What it returns besides is that a status is not 0.
		ps, _ := own.Wait()
		if ps == nil {
			return 0, false
		}
		ws, ok := ps.Sys().(syscall.WaitStatus)
		return ws, ok
	})
}

// joinDetached puts a process into the hierarchy of a detached mount, which
// libcontainer does not know.
func joinDetached(ctx context.Context, c *isolation.Container, pid int) error {
	if c.Cgroup().Mode() != cgroups.Legacy {
		return nil
	}
	return c.Cgroup().Add(ctx, pid)
}

// cut names the end of the context as the cause of what came of it.
func cut(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// fifo is the name of libcontainer's, in which its init waits to be let go.
const fifo = "exec.fifo"

// openFifo lets the init go on. libcontainer's own way, Container.Exec, leaves a
// thread in open(2) for ever if the init dies.
func openFifo(ctx context.Context, path string, p *life.Process) error {
	// Opened for both, it waits for nobody; see fifo(7).
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-p.Dead():
			_ = f.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	_, err = f.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) && context.Cause(ctx) == nil {
		err = wentOn(f, err) // a program that has ended before the look was let go
	}
	if err != nil {
		return fmt.Errorf("let the init go on: %w", err)
	}
	return os.Remove(path)
}

// wentOn is nil if the init has written its byte, and err if not.
func wentOn(f *os.File, err error) error {
	conn, cerr := f.SyscallConn()
	if cerr == nil {
		cerr = f.SetReadDeadline(time.Time{})
	}
	n := 0
	if cerr == nil {
		cerr = conn.Read(func(fd uintptr) bool {
			n, _ = syscall.Read(int(fd), make([]byte, 1))
			return true
		})
	}
	if cerr == nil && n == 1 {
		return nil
	}
	return err
}

// descriptors are those of a process to start; done closes what was opened for it.
func descriptors(p *libcontainer.Process, files []*os.File) (done func() error, err error) {
	std := [3]*os.File{}
	copy(std[:], files)
	done = func() error { return nil }
	for i := range std {
		if std[i] != nil {
			continue
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, errors.Join(err, done())
		}
		std[i] = null
		others := done
		done = func() error { return errors.Join(null.Close(), others()) }
	}
	p.Stdin, p.Stdout, p.Stderr = std[0], std[1], std[2]
	if len(files) > 3 {
		p.ExtraFiles = files[3:]
	}
	return done, nil
}
