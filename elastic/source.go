// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"path"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// notifier is a [cgroups.Notifier].
type notifier interface {
	FD() int
	PollEvents() uint32
	Ack() error
	Close() error
}

// source is what can be watched: a group, or the whole machine.
type source interface {
	Pressure(cgroups.PressureResource, *cgroups.Pressure) error
	openTrigger(cgroups.PressureResource, cgroups.Trigger) (notifier, error)
	openEvents(cgroups.EventKind) (notifier, error)
	Events(*cgroups.Events) error

	// silent reports whether limits may be hit without a notification.
	silent() bool

	// throttled is how long the group's own cpu.max has held it back, if it
	// has the cpu controller.
	throttled() (cgroups.Reading[time.Duration], error)

	// directory is a descriptor of what is removed together with the source,
	// and its name; ok is false if that cannot happen.
	directory() (fd int, name string, ok bool)

	// alive returns an error that matches [cgroups.ErrGone] once removed.
	alive() error
}

// group is one cgroup.
type group struct {
	*cgroups.Cgroup
	stats cgroups.Stats // scratch
}

func (g *group) openTrigger(r cgroups.PressureResource, t cgroups.Trigger) (notifier, error) {
	n, err := g.OpenTrigger(r, t)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (g *group) openEvents(k cgroups.EventKind) (notifier, error) {
	n, err := g.OpenEvents(k)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (g *group) silent() bool { return g.Mode() != cgroups.Unified }

func (g *group) throttled() (cgroups.Reading[time.Duration], error) {
	if !g.Controllers().Has(cgroups.ControllerCPU) {
		return cgroups.Reading[time.Duration]{}, nil
	}
	err := g.StatOf(&g.stats, cgroups.ControllersOf(cgroups.ControllerCPU))
	return g.stats.CPU.ThrottledTime, err
}

func (g *group) directory() (fd int, name string, ok bool) {
	fd = g.FD()
	return fd, path.Base(g.Path()), fd >= 0 // a fake has none
}

func (g *group) alive() error {
	_, err := g.Populated()
	return err
}

// machine is everything that runs on this machine. It has pressure only.
type machine struct{ *cgroups.Root }

func (m machine) openTrigger(r cgroups.PressureResource, t cgroups.Trigger) (notifier, error) {
	n, err := m.OpenTrigger(r, t)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (machine) openEvents(k cgroups.EventKind) (notifier, error) {
	return nil, &cgroups.UnsupportedError{Feature: k.String(), Reason: "it is of groups, not of the machine"}
}

func (machine) Events(e *cgroups.Events) error {
	*e = cgroups.Events{}
	return nil
}

func (machine) silent() bool                                             { return false }
func (machine) throttled() (r cgroups.Reading[time.Duration], err error) { return r, nil }
func (machine) directory() (fd int, name string, ok bool)                { return -1, "", false }
func (machine) alive() error                                             { return nil }
