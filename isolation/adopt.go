// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Target is a container that somebody else started: by one of its processes or
// by its group, not both.
type Target struct {
	// PID is a process of the container. The container is the group that the
	// process is in, in each tree: for a container with groups of its own
	// inside, such as one with systemd as init, give Cgroup.
	PID int

	// Cgroup is the container's group, relative to the top of each tree.
	Cgroup string

	// Labels are the sandbox's, for [Host.Sandboxes].
	Labels map[string]string
}

// PID is the container that the process pid is in.
func PID(pid int) Target { return Target{PID: pid} }

// CgroupPath is the container whose group is at path, relative to the top of
// each tree: "docker/4f0c...", "system.slice/nginx.service".
func CgroupPath(path string) Target { return Target{Cgroup: path} }

func (t Target) validate() error {
	switch {
	case (t.PID != 0) == (t.Cgroup != ""):
		return &InvalidError{Field: "target", Reason: "needs either a pid or a cgroup"}
	case t.PID < 0:
		return &InvalidError{Field: "pid", Value: strconv.Itoa(t.PID), Reason: "not positive"}
	}
	return nil
}

// TakenError says that a group cannot be adopted because it is in charge of
// somebody here already. It matches [ErrExists].
type TakenError struct {
	Cgroup string
	By     string // "sandbox "web-1"", "the host's own sandboxes"
}

// Error reads `cgroup "docker/4f0c": in charge of sandbox "db" already`.
func (e *TakenError) Error() string {
	return fmt.Sprintf("cgroup %q: in charge of %s already", clip(e.Cgroup), e.By)
}

// Is reports whether target is [ErrExists].
func (e *TakenError) Is(target error) bool { return target == ErrExists }

// Limits says what becomes of limits that were changed on a container that was
// adopted.
type Limits uint8

// The choices of [Sandbox.Release].
const (
	KeepLimits    Limits = iota // they stay as they are
	RestoreLimits               // they become what they were when it was adopted
)

// Adopt takes charge of a container that somebody else started: its limits can
// be planned and changed, it is measured, watched and frozen, and the next
// [Open] finds it again. Its life stays its owner's: Start, Wait and Signal are
// [ErrNotSupported], no process of it is ever ended and no group of it removed,
// and [Host.Destroy] lets go of it, like [Sandbox.Release].
//
// Nothing of the container is changed by adopting it. A controller that it is
// not under by itself, because it shares a group with others, cannot be limited:
// that is [ErrNotSupported] with the reason, and so is pressure where the
// container has no group in the unified tree. What the owner believes about
// limits (docker inspect) is not touched either.
//
// Adopting a container again under the same id and labels returns the sandbox; one whose
// container is gone makes room. It fails with [ErrInvalid] before anything is
// touched, also for a process that has no group of its own and for a group that
// this process is in; with a [TakenError] if the group belongs to a sandbox
// already; with [ErrExists] if the id does; with os.ErrNotExist, or ESRCH, if
// there is no such group or process.
func (h *Host) Adopt(ctx context.Context, id string, target Target) (*Sandbox, error) {
	s, err := h.adopt(ctx, id, target)
	return s, wrap("adopt", clip(id), err)
}

func (h *Host) adopt(ctx context.Context, id string, target Target) (*Sandbox, error) {
	spec := Spec{ID: id, Driver: adoptedName, Labels: maps.Clone(target.Labels)}
	if err := errors.Join(spec.Validate(), target.validate()); err != nil {
		return nil, err
	}
	if h.native.root == nil {
		return nil, &UnsupportedError{Feature: "adopt", Reason: "this machine has no groups", Err: h.native.ungrouped}
	}
	unlock, err := h.lock.operation(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := h.findAll(ctx); err != nil {
		return nil, err
	}
	s := newSandbox(h, h.adopted, newRecord(spec, h.boot, time.Now()))
	if err := h.adopted.hold(s.c, target); err != nil {
		return nil, err
	}
	existing, err := h.settle(ctx, s, s.sameContainer)
	if err != nil || existing != s {
		return existing, errors.Join(err, h.adopted.Release(s.c))
	}
	return s, nil
}

// findAll looks for the sandboxes that other processes made since Open, so that
// what they adopted is not adopted again.
func (h *Host) findAll(ctx context.Context) error {
	if !h.cfg.Shared {
		return nil
	}
	names, err := h.dir.Names()
	if err != nil {
		return err
	}
	for _, id := range names {
		h.mu.Lock()
		_, known := h.sandboxes[id]
		h.mu.Unlock()
		if !known {
			// One whose record makes no sense is in charge of nothing.
			if r := h.recoverOne(ctx, id); r.Err != nil && !IsCorrupt(r.Err) {
				return r.Err
			}
		}
	}
	return nil
}

// sameContainer reports whether existing, which has the id of s, lives on as
// what s is to be, and fails with [ErrExists] if it is something else.
func (s *Sandbox) sameContainer(ctx context.Context, existing *Sandbox) (lives bool, err error) {
	if err := existing.acquire(ctx); err != nil {
		return false, err
	}
	defer existing.release()
	if existing.gone {
		return false, nil
	}
	if existing.driver != s.driver {
		return true, ErrExists
	}
	if _, err := existing.driver.Check(ctx, existing.c); errors.Is(err, ErrNotFound) {
		return false, existing.forget()
	}
	if existing.c.Cgroup().ID() != s.c.Cgroup().ID() || !existing.c.record.asked().Equal(s.c.Spec) {
		return true, ErrExists
	}
	return true, nil
}

// Release lets go of a container that was adopted, which runs on, with the
// limits that changed meanwhile as they are or as they were; claims on it end. If
// restoring fails, the error is that of [Sandbox.Update] and the sandbox stays. A
// v2 cpuset that was empty becomes what the parent has, since the kernel takes no
// list away from processes;
// what cannot be restored, such as a device filter on v2, is [ErrNotSupported]
// before anything is touched. A container that is gone is nil. A sandbox of the host's own is
// [ErrInvalid]: it is destroyed instead.
func (s *Sandbox) Release(ctx context.Context, limits Limits) error {
	err := s.change(ctx, "release", func() error {
		if s.driver != Driver(s.host.adopted) {
			return &InvalidError{Field: "sandbox", Value: s.id, Reason: "it was not adopted: Destroy ends it"}
		}
		if err := s.unclaimed(ctx); err != nil {
			return err
		}
		if limits == RestoreLimits {
			if err := s.restore(ctx); err != nil && !errors.Is(err, cgroups.ErrGone) {
				return err
			}
		}
		return s.noted("release", s.forget())
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// restore takes back every limit that was changed since the container was adopted,
// all of them or none. The caller has its turn.
func (s *Sandbox) restore(ctx context.Context) error {
	back, err := s.host.adopted.found(s.c)
	if err != nil || back.IsZero() {
		return err
	}
	was, err := s.was(back)
	if err != nil {
		return err
	}
	before := s.c.Spec.Resources
	if err := s.c.record.add(entry{Update: &back, Was: &was}); err != nil {
		return err
	}
	if _, err := s.c.Cgroup().Update(ctx, back); err != nil {
		return errors.Join(err, s.c.record.add(entry{Updated: &before}))
	}
	return nil
}

// forget lets go of what an adopted sandbox holds, and of its record. The
// caller has its turn.
func (s *Sandbox) forget() error {
	err := s.driver.Destroy(context.Background(), s.c)
	s.gone = true
	s.host.leave(s)
	return errors.Join(err, s.c.record.remove())
}
