// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/isolation"
)

// Recover finds the group and the process of a sandbox that an earlier agent made.
func (d *Driver) Recover(ctx context.Context, c *isolation.Container) error {
	b := newBox()
	if ok, err := c.Saved(&b.saved); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: nothing was saved of it", isolation.ErrNotFound))
	}
	g, err := d.root.Open(d.path(c.Spec.ID))
	if errors.Is(err, fs.ErrNotExist) && b.saved.Starting && b.saved.PID == 0 {
		c.Private = b
		return d.again(ctx, c, b) // libcontainer removes it when a start fails
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", isolation.ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	g.Own()
	c.Cgroup = g
	if g.ID() != b.saved.Group && !b.saved.Starting {
		return errors.Join(fmt.Errorf("%w: its group was removed and made again", isolation.ErrNotFound), g.Close())
	}
	c.Private = b
	switch {
	case b.saved.Exit != nil:
		close(b.ended)
		return nil
	case b.saved.Starting && b.saved.PID == 0, d.waits(c.Spec.ID):
		return d.cutOff(ctx, c, b)
	case b.saved.PID == 0:
		return nil
	}
	return d.takeOver(c, b)
}

// waits reports whether libcontainer's init was not let go yet.
func (d *Driver) waits(id string) bool {
	_, err := os.Lstat(filepath.Join(d.dir(id), fifo))
	return err == nil
}

// cutOff is for a Start that did not live to say how it went. An init that was let
// go runs the program; everything before that is taken back.
func (d *Driver) cutOff(ctx context.Context, c *isolation.Container, b *box) error {
	b.saved.Starting, b.saved.PID = false, 0
	if d.waits(c.Spec.ID) {
		return d.again(ctx, c, b)
	}
	lc, err := libcontainer.Load(d.cfg.Root, c.Spec.ID)
	if err != nil {
		return d.again(ctx, c, b)
	}
	st, err := lc.State()
	if err != nil || st.InitProcessPid == 0 {
		return errors.Join(err, d.again(ctx, c, b))
	}
	b.saved.PID, b.saved.Since = st.InitProcessPid, st.InitProcessStartTime
	return d.takeOver(c, b)
}

// takeOver holds the first process, or finds that it has ended.
func (d *Driver) takeOver(c *isolation.Container, b *box) error {
	p, err := d.hold(b.saved.PID, nil)
	if err == nil {
		inode, since, ierr := linux.Identify(p.pid, p.pidfd.Int())
		switch {
		case ierr != nil && !errors.Is(ierr, fs.ErrNotExist):
			return errors.Join(ierr, p.release())
		case ierr != nil, b.saved.Inode != 0 && inode != b.saved.Inode, b.saved.Inode == 0 && since != b.saved.Since:
			err = errors.Join(fs.ErrNotExist, p.release())
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		b.saved.Exit = &isolation.ExitStatus{At: time.Now()}
		close(b.ended)
		return nil
	}
	if err != nil {
		return err
	}
	b.first = p
	p.tell(func(st isolation.ExitStatus) { b.exited(c, st) })
	return nil
}
