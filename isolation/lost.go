// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/compact"
)

// findLost writes records again for sandboxes that have none and are found by what
// is written on their groups; see mark.go. known are the ids that have one. It
// returns what it found, each as it is to be reported should that be all.
func (h *Host) findLost(known []string) (lost []string, err error) {
	below, err := h.native.parent.below()
	if err != nil {
		return nil, err
	}
	for _, id := range below {
		if slices.Contains(known, id) || ValidateID(id) != nil {
			continue
		}
		found, err := h.rewrite(id, nil)
		if err != nil {
			return lost, fmt.Errorf("sandbox %q has lost its record: %w", id, err)
		}
		if found {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

// rewrite makes the record of id anew from its group's mark and from the limits
// that the kernel has, in place of an old one without a whole line if there is one.
// It reports false if there is no such mark.
func (h *Host) rewrite(id string, old *record) (found bool, err error) {
	g, err := h.native.parent.find(id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	m, state, ok, err := readMark(g, id, h.native.scope)
	if err != nil || !ok {
		return false, err
	}
	limits := m.Spec.Resources
	if now, err := g.Resources(); err == nil {
		held, _ := now.Only(limits)
		limits = limits.Merge(held)
	} else if !errors.Is(err, cgroups.ErrNotSupported) {
		return false, err
	}
	driver, err := compact.Marshal(state)
	if err != nil {
		return false, err
	}
	if old != nil {
		if err := old.remove(); err != nil {
			return false, err
		}
	}
	// One line, so that there is no moment at which the record says that the
	// sandbox is half-made.
	log, err := h.dir.Create(id, entry{
		Version: recordVersion, Boot: h.boot, Spec: &m.Spec, At: m.Created, Phase: phaseCreated,
		Updated: &limits, Driver: driver,
	})
	if err != nil {
		return false, err
	}
	return true, log.Close()
}

// destroyCorrupt ends a sandbox whose record makes no sense: by its id, which is
// the name of its group, and by the group's mark if there is one. No
// such record is nil. One that has been created meanwhile is returned instead.
func (h *Host) destroyCorrupt(ctx context.Context, id string) (created *Sandbox, err error) {
	unlock, err := h.lock.operation(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Whoever creates it waits, or its record would be taken for a corrupt one.
	native := h.drivers[nativeName]
	place := newSandbox(h, native, newRecord(Spec{ID: id}, h.boot, time.Now()))
	if err := place.acquire(ctx); err != nil {
		return nil, err
	}
	defer place.release()
	if existing, err := h.take(ctx, place, lives); err != nil || existing != place {
		return existing, err
	}
	defer h.leave(place)
	place.gone = true
	return nil, h.destroyRecord(ctx, native, id)
}

// lives waits for the changes of s that are under way.
func lives(ctx context.Context, s *Sandbox) (bool, error) {
	if err := s.acquire(ctx); err != nil {
		return false, err
	}
	defer s.release()
	return !s.gone, nil
}

// destroyRecord is destroyCorrupt of an id that is nobody else's meanwhile.
func (h *Host) destroyRecord(ctx context.Context, native Driver, id string) error {
	rec, err := loadRecord(h.dir, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case rec == nil:
		return err
	case err == nil && h.cfg.Shared: // another process has created it since it was looked for
		return rec.close()
	case err == nil: // whole, and not taken over: Recovered says why
		return errors.Join(&StateError{State: StateCreating, Reason: "it could not be taken over when the host was opened"}, rec.close())
	case !IsCorrupt(err):
		return errors.Join(err, rec.close())
	}
	spec := Spec{ID: id}
	if g, err := h.native.parent.find(id); err == nil {
		if m, _, ok, err := readMark(g, id, h.native.scope); ok && err == nil {
			spec = m.Spec
		}
		if err := g.Close(); err != nil {
			return errors.Join(err, rec.close())
		}
	}
	dead := newRecord(spec, h.boot, time.Now())
	dead.log = rec.log
	s := newSandbox(h, native, dead)
	if err := native.Destroy(ctx, s.c); err != nil {
		return errors.Join(err, dead.close())
	}
	if err := dead.remove(); err != nil {
		return err
	}
	_, err = h.sweepNetwork(ctx) // of which the mark may have said nothing
	return err
}
