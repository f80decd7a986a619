// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/caisson-run/caisson/cgroups"
)

// promise has what sandboxes are promised by memory.low and memory.min count in the
// groups above them. A group is protected no further than the one above it is, from
// whatever runs short higher up; so each of those that hosts of this state directory
// made gets the sum of what is promised in it. It gets no more: where the tree is
// mounted with memory_recursiveprot, the rest would go to everybody in it.
//
// On v1 there is nothing to do.
func (p *parent) promise(ctx context.Context) error {
	p.promising.Lock()
	defer p.promising.Unlock()
	if now, err := p.group.Resources(cgroups.ControllerMemory); err != nil || now.Memory.Low.IsZero() {
		return err
	}
	upwards := p.paths()
	slices.Reverse(upwards) // classes' groups, and then that of all
	for above := path.Dir(p.name); above != "."; above = path.Dir(above) {
		upwards = append(upwards, above)
	}
	for _, at := range upwards {
		if !slices.Contains(p.made, at) {
			continue
		}
		if err := p.promiseAt(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// recoverPromises adds up again, since who ended in the middle may have left another
// sum.
func (h *Host) recoverPromises(ctx context.Context) error {
	p := h.native.parent
	if p == nil {
		return nil
	}
	for s := range h.Sandboxes(nil) {
		if promises(s.c.Spec.Resources) {
			return p.promise(ctx)
		}
	}
	m, err := p.promised(p.name)
	if low, _ := plus(m.Low, m.Min).Value(); err != nil || low == 0 {
		return err
	}
	return p.promise(ctx)
}

// promiseAt gives one group the sum of what is promised in it.
func (p *parent) promiseAt(ctx context.Context, at string) error {
	g, err := p.root.Open(at)
	if err != nil {
		return err
	}
	defer g.Close()
	names, err := g.Below()
	if err != nil {
		return err
	}
	all := cgroups.Memory{Low: cgroups.Bytes(0), Min: cgroups.Bytes(0)}
	for _, name := range names {
		m, err := p.promised(at + "/" + name)
		if err != nil {
			return err
		}
		all.Low, all.Min = plus(all.Low, m.Low), plus(all.Min, m.Min)
	}
	_, err = g.Update(ctx, cgroups.Resources{Memory: all})
	return err
}

// promised is what a group is promised, nothing if it is gone.
func (p *parent) promised(at string) (m cgroups.Memory, err error) {
	g, err := p.root.Open(at)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	defer g.Close()
	r, err := g.Resources(cgroups.ControllerMemory)
	if errors.Is(err, cgroups.ErrGone) {
		err = nil
	}
	return r.Memory, err
}

// plus adds up two promises; one that is unset is none.
func plus(a, b cgroups.Limit) cgroups.Limit {
	x, _ := a.Value()
	y, _ := b.Value()
	if a.IsMax() || b.IsMax() || x+y < x {
		return cgroups.Max()
	}
	return cgroups.Bytes(x + y)
}

// promises reports whether r is about what a sandbox is promised.
func promises(r cgroups.Resources) bool { return !r.Memory.Low.IsZero() || !r.Memory.Min.IsZero() }
