// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"

	"github.com/caisson-run/caisson/cgroups"
)

// Update changes the limits that r names while the sandbox runs: all of them,
// or none and the reason. An update to what holds already writes nothing to
// the kernel. A memory limit below what is in use comes down in steps, and kills
// nobody: see [cgroups.Gradual]. Destroy does not wait for that, but ends it.
//
// A knob that an owner holds by a [Claim] is a [ConflictError]. For several sandboxes
// at once there is [Host.UpdateAll].
func (s *Sandbox) Update(ctx context.Context, r cgroups.Resources) (cgroups.Result, error) {
	return s.UpdateWith(ctx, r, s.host.cfg.Update)
}

// UpdateWith is Update with a say in how memory limits fall, whatever
// Config.Update says.
func (s *Sandbox) UpdateWith(ctx context.Context, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	var result cgroups.Result
	err := s.change(ctx, "update", func() error {
		d, ok := s.driver.(Updater)
		if !ok {
			return s.lacks("update")
		}
		if err := errors.Join(r.Validate(), cfg.Validate()); err != nil {
			return err
		}
		return s.update(ctx, r, func(ctx context.Context, write cgroups.Resources) (changes []cgroups.Change, err error) {
			result, err = d.Update(ctx, s.c, write, cfg)
			return result.Changes, err
		})
	})
	return result, err
}

// update has do write what r comes to beside the claims of others, all of it or nothing,
// between the intent in the record and the word that it holds. Destroy ends do's ctx.
func (s *Sandbox) update(ctx context.Context, r cgroups.Resources, do func(ctx context.Context, write cgroups.Resources) ([]cgroups.Change, error)) error {
	before := s.c.Spec.Resources
	base, after, write, err := s.under(r)
	if err != nil {
		return err
	}
	was, err := s.was(r)
	if err != nil {
		return err
	}
	intent := entry{Update: &r}
	if !was.IsZero() {
		intent.Was = &was
	}
	if err := s.c.record.add(intent); err != nil {
		return err
	}
	var changes []cgroups.Change
	err = s.yielding(ctx, "update", func(ctx context.Context) (err error) {
		changes, err = do(ctx, write)
		return err
	})
	if err != nil {
		return errors.Join(err, s.c.record.add(entry{Updated: &before}))
	}
	if err := s.c.record.add(entry{Updated: &after, Layers: base}); err != nil {
		_, uerr := s.takeBack(context.WithoutCancel(ctx))
		return errors.Join(err, uerr)
	}
	s.c.Spec.Resources = after
	s.note(JournalEntry{Event: "update", Changes: changes})
	return nil
}
