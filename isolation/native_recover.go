// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/sys"
)

// Recover finds a sandbox that an earlier process made.
func (d *nativeDriver) Recover(ctx context.Context, c *Container) error {
	b := d.newBox()
	if ok, err := c.Saved(&b.saved); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: nothing was saved of it", ErrNotFound))
	}
	for _, iso := range d.isolators {
		if ri, ok := iso.(RecoverIsolator); ok {
			if err := ri.Recover(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", iso.Name(), err)
			}
		}
	}
	if c.Cgroup() == nil {
		b.saved.Starting = false // or it would have been announced
	} else if err := d.inGroup(ctx, c, b); err != nil {
		return err
	}
	c.Private = b
	if err := d.resume(ctx, c, b); err != nil {
		return err
	}
	switch {
	case b.saved.Exit != nil:
		close(b.ended)
		return nil
	case b.saved.PID == 0:
		return nil
	}
	pidfd, err := holdProcess(b.saved.PID, b.saved.Since, b.saved.Inode)
	if errors.Is(err, fs.ErrNotExist) {
		return d.goneBefore(ctx, c, b)
	}
	if err != nil {
		return err
	}
	b.pidfd = pidfd
	// A Start that was cut off may not have come to what is set once the
	// process runs.
	if _, later := heldBack(c.Spec.Resources); !later.IsZero() && c.Cgroup() != nil {
		if _, err := c.Cgroup().Update(ctx, later); err != nil {
			return err
		}
	}
	return d.listen(c, b)
}

// inGroup finds in the group what the record does not tell of.
func (d *nativeDriver) inGroup(ctx context.Context, c *Container, b *box) error {
	// Its number is enough, in one boot: where the unified tree is mounted nowhere,
	// each process's own mount of it may have another device.
	if c.Cgroup().ID().Ino != b.saved.Group.Ino {
		return fmt.Errorf("%w: its group was removed and made again", ErrNotFound)
	}
	if b.saved.PID == 0 {
		if err := markedProcess(c, &b.saved); err != nil {
			return err
		}
	}
	if b.saved.Starting && b.saved.PID == 0 {
		return d.findStarted(ctx, c, b)
	}
	return nil
}

// findStarted looks for the process of a Start that did not live to write its pid
// down: the supervisor knows, or it is the oldest of the group.
func (d *nativeDriver) findStarted(ctx context.Context, c *Container, b *box) error {
	p, found, err := d.supervisor.find(ctx, c.Spec.ID)
	if err != nil {
		return err
	}
	if found {
		b.saved.Starting, b.saved.PID, b.saved.Inode, b.saved.Since = false, p.PID, p.Inode, p.Since
		return nil
	}
	return d.oldest(ctx, c.home(), b)
}

// oldest takes the oldest process of the group for the first. One that has not come
// to its program yet is ended: it may be waiting for the id maps that a dead agent
// was to write.
func (d *nativeDriver) oldest(ctx context.Context, g *cgroups.Cgroup, b *box) error {
	pids, err := g.Procs(nil)
	if err != nil {
		return err
	}
	b.saved.Starting = false
	for _, pid := range pids {
		since, err := linux.StartTime(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if b.saved.PID == 0 || since < b.saved.Since {
			b.saved.PID, b.saved.Since = pid, since
		}
	}
	if b.saved.PID == 0 {
		return nil
	}
	st, err := linux.ReadStat(b.saved.PID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // holding it will say so
	}
	if err != nil || !st.BeforeExec || st.StartTime != b.saved.Since {
		return err
	}
	pid, since := b.saved.PID, b.saved.Since
	b.saved.PID, b.saved.Since = 0, 0
	return d.endOne(ctx, pid, since)
}

// endOne kills a process that is not a child of this one, and waits for its end. It
// does not use cgroup.kill: Linux 6.18 kills at its birth who is cloned into a group
// that was killed once.
func (d *nativeDriver) endOne(ctx context.Context, pid int, since uint64) (err error) {
	pidfd, err := holdProcess(pid, since, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pidfd.Close()) }()
	return d.endHeld(ctx, pidfd, fmt.Sprintf("process %d", pid))
}

// endHeld kills the process that pidfd holds, and waits for its end. which is its
// name for messages.
func (d *nativeDriver) endHeld(ctx context.Context, pidfd *sys.FD, which string) error {
	ended := make(chan struct{})
	drop, err := d.engine.OnExit(pidfd.Int(), func() { close(ended) })
	if err != nil {
		return err
	}
	defer drop()
	if err := sys.PidfdSignal(pidfd.Int(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of %s: %w", which, context.Cause(ctx))
	}
}

// holdProcess holds the process pid whose pidfd has that inode or, if it is 0,
// that started at since. Another process of that number, and none, are
// os.ErrNotExist.
func holdProcess(pid int, since, inode uint64) (*sys.FD, error) {
	pidfd, err := sys.PidfdOpen(pid)
	if errors.Is(err, syscall.ESRCH) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	// Held before looked at: the number cannot change hands in between
	// without the look showing another inode or start time.
	got, want := uint64(0), cmp.Or(inode, since)
	if inode != 0 {
		got = sys.PidfdInode(pidfd.Int())
	} else {
		got, err = linux.StartTime(pid)
	}
	if err == nil && got != want {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, pidfd.Close())
	}
	return pidfd, nil
}

// goneBefore takes down the end of a process that was over when the host was opened.
func (d *nativeDriver) goneBefore(ctx context.Context, c *Container, b *box) error {
	st, known, err := d.supervisor.exit(ctx, c.Spec.ID, b.process())
	if err != nil {
		return err
	}
	if !known {
		st = ExitStatus{At: time.Now()}
	}
	st = c.GroupExit(st)
	b.saved.Exit = &st
	close(b.ended)
	if !known {
		return nil
	}
	// The supervisor hears of it when all are recovered.
	if err := c.Save(b.saved); err != nil {
		return err
	}
	c.Ended(st) // nobody has told the journal
	return nil
}
