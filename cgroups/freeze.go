// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
)

const (
	fileFreeze        = "cgroup.freeze" // v2
	fileFreezer       = "freezer.state" // v1
	fileParentFreezes = "freezer.parent_freezing"
)

// Freeze stops every process in the group and below it and returns when all
// have stopped. Where there is a unified tree it is cgroup.freeze, also for
// limits that are v1's: stopped processes can be killed. Else it is v1's
// freezer, under which SIGKILL waits until the group thaws; the group joins
// that tree if it is not in it.
//
// If ctx ends first, the group is thawed again, unless it was being frozen
// before the call, or the kernel is still in the write: a [BlockedError].
// Freezing a group that holds the calling process is refused.
//
// Linux 5.2, cgroup v2 "Core Interface Files".
func (c *Cgroup) Freeze(ctx context.Context) error {
	if c.HoldsCaller() {
		return c.holdsUs("freeze")
	}
	if n, err := c.freezesBy(); err != nil {
		return err
	} else if n != nil {
		return n.freeze(ctx)
	}
	c.mu.Lock()
	n, err := c.ensure(ctx, ControllerFreezer)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return n.freezeLegacy(ctx)
}

// Thaw lets the processes run again and returns when none is stopped. A group
// above that is frozen keeps them stopped, which is an error, and so is somebody
// else's use of v1's freezer on a group that Freeze stops through the unified
// tree.
func (c *Cgroup) Thaw(ctx context.Context) error {
	n, err := c.freezesBy()
	if err != nil {
		return err
	}
	if n != nil {
		if err := n.thaw(ctx, n.path); err != nil {
			return err
		}
		return c.heldByLegacy(n)
	}
	if n = c.node(ControllerFreezer); n == nil {
		return nil // never frozen by Freeze
	}
	return n.thawLegacy()
}

// Frozen reports whether every process in the group and below it is stopped,
// by this group's freezer or that of a group above, whoever froze it.
func (c *Cgroup) Frozen() (bool, error) {
	if uni := c.unified(); uni != nil {
		frozen, err := uni.event("frozen")
		if err != nil {
			return false, err
		}
		if frozen { // which says something of those alone who are there
			if n, err := c.freezesBy(); n != nil || err != nil {
				return err == nil, err
			}
		}
	}
	// Others, such as runtimes that know v1 alone, may have used its freezer.
	n := c.node(ControllerFreezer)
	if n == nil {
		return false, nil
	}
	state, err := n.word(fileFreezer)
	return state == "FROZEN", err
}

// heldByLegacy is the error of a Thaw that leaves v1's freezer, which somebody
// else has used, to him.
func (c *Cgroup) heldByLegacy(thawed *node) error {
	n := c.node(ControllerFreezer)
	if n == nil || n == thawed {
		return nil
	}
	state, err := n.word(fileFreezer)
	if err == nil && state != "THAWED" {
		err = fmt.Errorf("thaw %s: somebody else has frozen it in %s, and has to thaw it there", thawed.dir.Path(), n.dir.Path())
	}
	return err
}

// freezesBy is the group's directory in the unified tree, if its processes are
// there, or nil if v1's freezer has to do. Runtimes that know v1 alone leave
// the unified directory empty, and freezing that would stop nobody.
func (c *Cgroup) freezesBy() (*node, error) {
	uni := c.unified()
	if uni == nil || len(c.places()) == 1 {
		return uni, nil
	}
	here, err := uni.event("populated")
	if err != nil || here {
		return uni, err
	}
	anywhere, err := c.Populated()
	if err != nil || !anywhere {
		return uni, err
	}
	return nil, nil //nolint:nilnil // no directory, and no error, is one of the answers
}

func (c *Cgroup) holdsUs(what string) error {
	return &InvalidError{Field: what, Value: c.path, Reason: "the calling process is in this group"}
}

// freeze stops what is below the v2 directory n.
func (n *node) freeze(ctx context.Context) error {
	events, err := n.dir.Open(fileEvents, os.O_RDONLY)
	if err != nil {
		return n.failed(err)
	}
	defer events.Close()
	was, err := n.word(fileFreeze)
	if err != nil {
		return err
	}
	if err := n.slow.write(ctx, n, fileFreeze, "1", 0); err != nil {
		return err
	}
	err = await(ctx, events, "frozen", true)
	if err != nil && was == "0" {
		err = errors.Join(err, n.dir.WriteFile(fileFreeze, "0"))
	}
	return n.failed(err)
}

// thaw lets what is below the v2 directory n, at path, run again.
func (n *node) thaw(ctx context.Context, path string) error {
	events, err := n.dir.Open(fileEvents, os.O_RDONLY)
	if err != nil {
		return n.failed(err)
	}
	defer events.Close()
	if err := n.slow.write(ctx, n, fileFreeze, "0", 0); err != nil {
		return err
	}
	for i := len(path) - 1; i > 0; i-- {
		if path[i] != '/' {
			continue
		}
		b, err := n.in.dir.ReadFile(path[:i+1]+fileFreeze, nil)
		if err == nil && strings.TrimSpace(string(b)) == "1" {
			return fmt.Errorf("thaw %s: the group above it, %s, is frozen", n.dir.Path(), path[:i])
		}
	}
	return n.failed(await(ctx, events, "frozen", false))
}

// await returns when cgroup.events has the value for name.
func await(ctx context.Context, events *kernfs.File, name string, value bool) error {
	for {
		if is, err := isEvent(events, name, value); is || err != nil {
			return err
		}
		if err := events.Wait(ctx); err != nil {
			return fmt.Errorf("wait for %s in %s: %w", name, events.Path(), err)
		}
	}
}

// isEvent reports whether the line name of cgroup.events has this value now.
func isEvent(events *kernfs.File, name string, value bool) (bool, error) {
	var buf [64]byte
	k, err := events.ReadAt(buf[:])
	if err != nil {
		return false, err
	}
	is, known := parseEvent(string(buf[:k]), name)
	return known && is == value, nil
}

// freezeLegacy stops what is below n with v1's freezer, which announces
// nothing. Reading the state makes the kernel look again, and writing it again
// reaches what has forked meanwhile.
func (n *node) freezeLegacy(ctx context.Context) error {
	was, err := n.word(fileFreezer)
	if err != nil {
		return err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err := n.slow.write(ctx, n, fileFreezer, "FROZEN", 0); err != nil {
			return err
		}
		state, err := n.word(fileFreezer)
		if err != nil || state == "FROZEN" {
			return err
		}
		if err := rest(ctx, pause); err != nil {
			err = fmt.Errorf("freeze %s: %s: %w", n.dir.Path(), state, err)
			if was == "THAWED" {
				err = errors.Join(err, n.dir.WriteFile(fileFreezer, "THAWED"))
			}
			return err
		}
	}
}

func (n *node) thawLegacy() error {
	if err := n.dir.WriteFile(fileFreezer, "THAWED"); err != nil {
		return n.failed(err)
	}
	above, err := n.word(fileParentFreezes)
	if err == nil && above == "1" {
		err = fmt.Errorf("thaw %s: a group above it is frozen", n.dir.Path())
	}
	return err
}

// word reads a file that holds one word.
func (n *node) word(file string) (string, error) {
	var buf [64]byte
	b, err := n.dir.ReadFile(file, buf[:])
	if err != nil {
		if n.in.v2 && errors.Is(err, syscall.ENOENT) {
			if e := n.failed(err); !errors.Is(e, syscall.ENOENT) || errors.Is(e, ErrGone) {
				return "", e
			}
			return "", &UnsupportedError{Feature: file, Reason: "this kernel's groups have no such file", Err: err}
		}
		return "", n.failed(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// rest waits for d, or less if ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
