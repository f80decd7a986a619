// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"syscall"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/sys"
)

// ungroupedDriver is the native driver of a host that may make no groups: the
// kernel ends all processes of a pid namespace with its first one, and that is held
// by a pidfd. It has what needs no group.
type ungroupedDriver struct{ d *nativeDriver }

func (u ungroupedDriver) Create(ctx context.Context, c *Container) error { return u.d.Create(ctx, c) }
func (u ungroupedDriver) Start(ctx context.Context, c *Container, files []*os.File) error {
	return u.d.Start(ctx, c, files)
}
func (u ungroupedDriver) Check(ctx context.Context, c *Container) (Status, error) {
	return u.d.Check(ctx, c)
}
func (u ungroupedDriver) Destroy(ctx context.Context, c *Container) error {
	if err := u.d.killFirst(ctx, c); err != nil {
		return err
	}
	return u.d.Destroy(ctx, c)
}
func (u ungroupedDriver) Recover(ctx context.Context, c *Container) error { return u.d.Recover(ctx, c) }
func (u ungroupedDriver) Release(c *Container) error                      { return u.d.Release(c) }
func (u ungroupedDriver) Wait(ctx context.Context, c *Container) (ExitStatus, error) {
	return u.d.Wait(ctx, c)
}
func (u ungroupedDriver) Signal(ctx context.Context, c *Container, sig syscall.Signal) error {
	return u.d.Signal(ctx, c, sig)
}
func (u ungroupedDriver) Exec(ctx context.Context, c *Container, p Process, files []*os.File) (*Exec, error) {
	return u.d.Exec(ctx, c, p, files)
}
func (u ungroupedDriver) Execs(ctx context.Context, c *Container) ([]*Exec, error) {
	return u.d.Execs(ctx, c)
}

// Watch tells of the end of the first process.
func (u ungroupedDriver) Watch(ctx context.Context, c *Container, _ []elastic.Threshold) iter.Seq2[Event, error] {
	if err := whole(c); err != nil {
		return failed(err)
	}
	b := boxOf(c)
	return func(yield func(Event, error) bool) {
		select {
		case <-b.ended:
			yield(b.exitEvent(), nil)
		case <-ctx.Done():
		}
	}
}

// openGroups opens the parent group. Where this process may make none and
// cfg.Ungrouped says so, it notes why and goes on without.
func (d *nativeDriver) openGroups(cfg Config, open func() error) error {
	err := open()
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && !cfg.Ungrouped {
		return fmt.Errorf("%w (an ordinary user needs a cgroup2 directory that was delegated to him as Config.CgroupMount, or Config.Ungrouped)", err)
	}
	if err == nil || !cfg.Ungrouped || len(cfg.Supervisor) > 0 {
		return err
	}
	absent := errors.Is(err, fs.ErrNotExist) && cfg.CgroupMount == "" // and no mistake in its name
	if absent || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, ErrNotSupported) {
		d.ungrouped = fmt.Errorf("no group can be made: %w", err)
		return nil
	}
	return err
}

// groupless is the error of what takes a group, on a host that has none.
func (h *Host) groupless(feature string) error {
	return &UnsupportedError{Feature: feature, Reason: "the host works without groups", Err: h.native.ungrouped}
}

// killFirst ends the first process, and with it all of its pid namespace.
func (d *nativeDriver) killFirst(ctx context.Context, c *Container) error {
	pidfd, err := d.firstProcess(c)
	if pidfd == nil || err != nil {
		return err
	}
	defer pidfd.Close()
	return d.endHeld(ctx, pidfd, "the first process")
}

// firstProcess holds the first process, if it lives.
func (d *nativeDriver) firstProcess(c *Container) (*sys.FD, error) {
	if b := boxOf(c); b != nil {
		if b.state() != StateRunning {
			return nil, nil //nolint:nilnil // none lives, which is no error
		}
		return b.pidfd.Dup()
	}
	// A sandbox that an earlier process began to end.
	var saved nativeState
	if ok, err := c.Saved(&saved); err != nil || !ok || saved.PID == 0 || saved.Exit != nil {
		return nil, err
	}
	pidfd, err := holdProcess(saved.PID, saved.Since, saved.Inode)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // as above
	}
	return pidfd, err
}

// announce has the process written down before it goes on, where no group will
// tell of it.
func (d *nativeDriver) announce(c *Container, saved nativeState) func(pid, pidfd int) error {
	return func(pid, pidfd int) (err error) {
		saved.PID = pid
		if saved.Inode, saved.Since, err = linux.Identify(pid, pidfd); err != nil {
			return err
		}
		return c.Save(saved)
	}
}
