// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/caisson-run/caisson/internal/checkpoint"
)

// Recovery is what [Open] did with one sandbox that an earlier process left.
type Recovery struct {
	ID      string
	Adopted bool   // it lives on; otherwise it was removed, or Err says why not
	Reason  string // why
	Err     error  // what could not be done; the sandbox's files are then left alone
}

// String is one line.
func (r Recovery) String() string {
	what := "removed"
	switch {
	case r.Err != nil:
		return fmt.Sprintf("%s: left alone: %v", r.ID, r.cause())
	case r.Adopted:
		what = "adopted"
	}
	return fmt.Sprintf("%s: %s: %s", r.ID, what, r.Reason)
}

// cause is why the sandbox was left alone; Err is not nil.
func (r Recovery) cause() error { return fmt.Errorf("%s: %w", r.Reason, r.Err) }

// Recovered says what [Open] found, by id.
func (h *Host) Recovered() []Recovery { return h.recovered }

func (h *Host) recover(ctx context.Context) error {
	names, err := h.dir.Names()
	if err != nil {
		return err
	}
	lost, err := h.findLost(names)
	if err != nil {
		return err
	}
	names = append(names, lost...)
	slices.Sort(names)
	for _, id := range names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		r := h.recoverOne(ctx, id)
		if slices.Contains(lost, id) {
			r.Reason = lostReason + r.Reason
		}
		h.recovered = append(h.recovered, r)
		if h.journal != nil && (!h.cfg.Shared || !r.Adopted) { // others find what is whole again and again
			h.journal.add(JournalEntry{ID: id, Time: h.clock.now().Round(0), Event: "recover", Reason: r.String()})
		}
	}
	return nil
}

const lostReason = "its record was lost, and its group tells of it: "

// recoverNetwork removes the networks that belong to no sandbox, and says so.
func (h *Host) recoverNetwork(ctx context.Context) error {
	removed, err := h.sweepNetwork(ctx)
	for _, id := range removed {
		h.recovered = append(h.recovered, Recovery{ID: id, Reason: "only its network was left"})
	}
	return err
}

// recoverLogs removes the logs of no sandbox, and says so.
func (h *Host) recoverLogs() error {
	ids, err := h.dir.Names()
	if err != nil {
		return err
	}
	removed, err := h.native.logs.sweep(ids)
	for _, id := range removed {
		h.recovered = append(h.recovered, Recovery{ID: id, Reason: "only its log was left"})
	}
	return err
}

// sweepNetwork removes the networks that belong to no sandbox.
func (h *Host) sweepNetwork(ctx context.Context) (removed []string, err error) {
	ids, err := h.dir.Names()
	if err != nil {
		return nil, err
	}
	return h.native.network.recover(ctx, ids)
}

// find looks for a sandbox that another process of a shared state directory
// made since Open.
func (h *Host) find(ctx context.Context, id string) (*Sandbox, error) {
	unlock, err := h.lock.operation(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r := h.recoverOne(ctx, id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.sandboxes[id]; ok {
		return s, nil
	}
	if r.Err != nil && !errors.Is(r.Err, fs.ErrNotExist) {
		return nil, r.cause()
	}
	return nil, ErrNotFound
}

// recoverOne adopts a whole sandbox and takes a half-made one apart.
func (h *Host) recoverOne(ctx context.Context, id string) Recovery {
	rec, lost, r := h.recoverRecord(id)
	if rec == nil {
		return r
	}
	return h.takeOver(ctx, id, rec, lost)
}

// left is what is left alone.
func left(id, reason string, err error) Recovery { return Recovery{ID: id, Reason: reason, Err: err} }

// recoverRecord reads the record of a sandbox that may have survived, written anew from
// what its group says where the record is wrong, of which lost tells; or else
// returns none, and what became of it.
func (h *Host) recoverRecord(id string) (rec *record, lost string, r Recovery) {
	rec, err := loadRecord(h.dir, id)
	if rec == nil {
		return nil, "", left(id, "its record cannot be read", err)
	}
	if h.unwritten(id, err) {
		return nil, "", h.forget(id, rec, "it was not even begun")
	}
	if IsCorrupt(err) && errors.Is(err, io.ErrUnexpectedEOF) && ValidateID(id) == nil {
		// The group may tell what there is no word of in it.
		found, rerr := h.rewrite(id, rec)
		if rerr != nil {
			return nil, "", left(id, "its record is empty", errors.Join(err, rerr, rec.close()))
		}
		if found {
			lost = lostReason
			if rec, err = loadRecord(h.dir, id); rec == nil {
				return nil, "", left(id, "its record cannot be read", err)
			}
		}
	}
	if err == nil {
		err = ValidateID(id)
	}
	if err != nil {
		return nil, "", left(id, "its record makes no sense: destroy it, or remove the file for its group to tell of it", errors.Join(err, rec.close()))
	}
	if rec.boot != h.boot || rec.phase == phaseCreating {
		// What the group says was written when it was whole, in this boot.
		found, rerr := h.rewrite(id, rec)
		if rerr != nil {
			return nil, "", left(id, "its group cannot be read", errors.Join(rerr, rec.close()))
		}
		if found {
			lost = lostReason
			if rec, err = loadRecord(h.dir, id); err != nil {
				if rec != nil {
					err = errors.Join(err, rec.close())
				}
				return nil, "", left(id, "its record cannot be read", err)
			}
		}
	}
	if rec.boot != h.boot {
		// Nothing of it can have survived, and its pid and paths may be
		// somebody else's by now.
		return nil, "", h.forget(id, rec, "the machine was restarted since")
	}
	return rec, lost, Recovery{}
}

// takeOver goes on with the sandbox of a record, or with its end.
func (h *Host) takeOver(ctx context.Context, id string, rec *record, lost string) Recovery {
	driver, ok := h.drivers[rec.spec.Driver]
	if !ok {
		err := fmt.Errorf("driver %q is not configured: %w", clip(rec.spec.Driver), ErrNotSupported)
		return left(id, "its driver is missing", errors.Join(err, rec.close()))
	}
	rec.steady(h.clock)
	s := newSandbox(h, driver, rec)
	switch rec.phase {
	case phaseCreating:
		return h.finish(ctx, s, "it was half-made")
	case phaseDestroying:
		return h.finish(ctx, s, "it was being destroyed")
	case phaseCreated:
	}
	err := s.discover(ctx)
	if errors.Is(err, ErrNotFound) {
		return h.finish(ctx, s, "it vanished")
	}
	reason := lost + "it is whole"
	if err == nil {
		if did, uerr := s.conclude(ctx); uerr != nil {
			// Check tells which limits are not what they were.
			reason += ", and a change that was cut off could not be ended: " + uerr.Error()
		} else if did != "" {
			reason += ", and " + did
		}
	}
	if err == nil {
		var there *Sandbox
		if there, err = h.enter(s); err == nil && there != s {
			err = s.close() // another call of this process was first
		}
		if there == s {
			rec.steady(h.clock) // again, should those of before an update count once more
			h.leases.arm(s, rec.ends())
		}
	}
	if err != nil {
		return left(id, "it could not be taken over", errors.Join(err, rec.close()))
	}
	return Recovery{ID: id, Adopted: true, Reason: reason}
}

// unwritten reports whether err says that a record has no whole line, and no group
// speaks against the obvious: its maker ended before it wrote the first, and so
// before it made anything.
func (h *Host) unwritten(id string, err error) bool {
	if !IsCorrupt(err) || !errors.Is(err, io.ErrUnexpectedEOF) || ValidateID(id) != nil {
		return false
	}
	g, err := h.native.parent.find(id)
	if err == nil {
		_ = g.Close()
	}
	return errors.Is(err, fs.ErrNotExist)
}

// finish destroys what is left of a sandbox.
func (h *Host) finish(ctx context.Context, s *Sandbox, reason string) Recovery {
	if err := s.raze(ctx); err != nil {
		return Recovery{ID: s.id, Reason: reason, Err: errors.Join(err, s.c.record.close())}
	}
	return h.forget(s.id, s.c.record, reason)
}

func (h *Host) forget(id string, rec *record, reason string) Recovery {
	return Recovery{ID: id, Reason: reason, Err: rec.remove()}
}

// leftAlone is why Open did not take over the sandbox called id, as long as its
// record is there.
func (h *Host) leftAlone(id string) error {
	for _, r := range h.recovered {
		if r.ID != id || r.Err == nil {
			continue
		}
		if _, err := os.Lstat(h.dir.Path(id)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return r.cause()
	}
	return nil
}

// unrecorded is why the record of a new sandbox could not be made.
func (h *Host) unrecorded(id string, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		if left := h.leftAlone(id); left != nil {
			err = left
		}
		return fmt.Errorf("%w: %w", ErrExists, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("somebody removed the state directory: a host that is opened anew makes it: %w", err)
	}
	return err
}

// IsCorrupt reports whether err says that a sandbox's record makes no sense.
func IsCorrupt(err error) bool { return errors.Is(err, checkpoint.ErrCorrupt) }
