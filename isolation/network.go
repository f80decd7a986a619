// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"

	"github.com/caisson-run/caisson/netns"
)

// A Networker changes and measures the network of a container.
type Networker interface {
	// Interfaces lists the links of the container's own network.
	Interfaces(c *Container) []netns.Attached
	// UpdateNetwork changes the limits and the priority of one interface, "" for
	// the first, all that b names or nothing.
	UpdateNetwork(ctx context.Context, c *Container, name string, b netns.Bandwidth) error
	// StatNetwork measures one interface into s, without allocating.
	StatNetwork(c *Container, name string, s *netns.InterfaceStats) error
}

// Interfaces lists the links of the sandbox's own network, besides the loopback
// device, with their addresses.
func (s *Sandbox) Interfaces() []netns.Attached {
	if d, ok := s.networker(); ok {
		return d.Interfaces(s.c)
	}
	return nil
}

// UpdateNetwork changes the limits and the priority of the interface called name
// inside, "" for the first, while the sandbox runs: all that b names, or nothing and the
// reason. No packet and no connection is lost. A later host keeps them. A priority
// counts instead of that of the sandbox's class. While a
// controller has limited the sandbox further, see [Sandbox.SqueezeNetwork], those
// count where they are lower.
func (s *Sandbox) UpdateNetwork(ctx context.Context, name string, b netns.Bandwidth) error {
	return s.change(ctx, "update network", func() error {
		d, ok := s.networker()
		if !ok {
			return s.lacks("network limits")
		}
		if err := b.Validate(); err != nil {
			return err
		}
		at := interfaceNamed(d.Interfaces(s.c), name)
		if at < 0 {
			return &InvalidError{Field: "interface", Value: clip(name), Reason: "the sandbox has none of this name"}
		}
		before := s.c.Spec.Network
		after := before.Clone()
		in := &after.Interfaces[at]
		in.Bandwidth = in.Bandwidth.Merge(b)
		if err := s.c.record.add(entry{Reshape: &reshape{Interface: at, Bandwidth: b}}); err != nil {
			return err
		}
		if err := d.UpdateNetwork(ctx, s.c, name, only(lower(in.Bandwidth, s.c.record.narrowed().of(at)), b)); err != nil {
			return errors.Join(err, s.c.record.add(entry{Network: &before}))
		}
		if err := s.c.record.add(entry{Network: &after}); err != nil {
			// Not acknowledged, so a later host would go back: so does this one.
			_, uerr := s.unshape(context.WithoutCancel(ctx))
			return errors.Join(err, uerr)
		}
		s.c.Spec.Network = after
		return s.noted("update network", nil)
	})
}

func interfaceNamed(all []netns.Attached, name string) int {
	for i, a := range all {
		if name == "" || a.Name == name {
			return i
		}
	}
	return -1
}

// StatNetwork measures the interface called name inside, "" for the first, into
// st, which is unchanged after an error. It does not allocate.
func (s *Sandbox) StatNetwork(name string, st *netns.InterfaceStats) error {
	d, ok := s.networker()
	if !ok {
		return wrap("stat network", s.id, s.lacks("network counters"))
	}
	if err := d.StatNetwork(s.c, name, st); err != nil {
		return wrap("stat network", s.id, err)
	}
	return nil
}

// noNetwork is the error of a sandbox that has no network of its own.
func noNetwork(c *Container) error {
	if err := whole(c); err != nil {
		return err
	}
	return ownNetwork(c)
}

func ownNetwork(c *Container) error {
	if c.Network == nil {
		return &UnsupportedError{Feature: "network", Reason: "the sandbox has none of its own"}
	}
	return nil
}

// surroundingNetwork is the network that a host has made around the container of
// another driver.
type surroundingNetwork struct{ *nativeDriver }

// UpdateNetwork changes the limits of one interface.
func (surroundingNetwork) UpdateNetwork(ctx context.Context, c *Container, name string, b netns.Bandwidth) error {
	if err := ownNetwork(c); err != nil {
		return err
	}
	return c.Network.SetBandwidth(ctx, name, b)
}

// StatNetwork measures one interface.
func (surroundingNetwork) StatNetwork(c *Container, name string, s *netns.InterfaceStats) error {
	if c.record.at() != phaseCreated {
		return &StateError{State: StateCreating, Reason: "it is not whole yet"}
	}
	if err := ownNetwork(c); err != nil {
		return err
	}
	return c.Network.Stat(name, s)
}

// Interfaces lists the links of the sandbox's own network.
func (d *nativeDriver) Interfaces(c *Container) []netns.Attached {
	if c.Network == nil {
		return nil
	}
	return c.Network.Interfaces()
}

// UpdateNetwork changes the limits of one interface.
func (d *nativeDriver) UpdateNetwork(ctx context.Context, c *Container, name string, b netns.Bandwidth) error {
	if err := noNetwork(c); err != nil {
		return err
	}
	return c.Network.SetBandwidth(ctx, name, b)
}

// StatNetwork measures one interface.
func (d *nativeDriver) StatNetwork(c *Container, name string, s *netns.InterfaceStats) error {
	if err := noNetwork(c); err != nil {
		return err
	}
	return c.Network.Stat(name, s)
}
