// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"encoding/json"
	"iter"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/netns"
)

// A Driver makes, ends and reports one kind of container. These three calls
// are the whole contract: a driver that has only them is a good driver. What
// else it can do it shows by implementing the interfaces below.
//
// The host calls a driver for one container from one goroutine at a time,
// except for Check, Stat, Wait and Watch, which may run beside anything. The
// [*Container] is the same value in each call until the host is closed.
type Driver interface {
	// Create makes the container, whole or not at all. Its process is not
	// started where the driver is a [Starter], and is otherwise.
	Create(ctx context.Context, c *Container) error

	// Destroy ends every process and leaves nothing. It also takes apart
	// what a crash left half-made, it may be repeated, and a container that
	// is gone already is nil.
	Destroy(ctx context.Context, c *Container) error

	// Check tells the truth as it is now. A container that vanished is an
	// error that matches [ErrNotFound].
	Check(ctx context.Context, c *Container) (Status, error)
}

// A Recoverer takes over containers that an earlier process made. Without it,
// the host calls Check alone.
type Recoverer interface {
	// Recover finds what belongs to c by the spec and by what the driver
	// saved. A container that vanished is an error that matches
	// [ErrNotFound].
	Recover(ctx context.Context, c *Container) error
}

// A Starter starts the process of a created container. files become its
// descriptors 0, 1, 2 and so on; nil ones among the first three are /dev/null. The
// host has seen to it that the first three block, and where they are pipes, that the
// process can open them again.
type Starter interface {
	Start(ctx context.Context, c *Container, files []*os.File) error
}

// A Waiter waits for the end of the first process.
type Waiter interface {
	Wait(ctx context.Context, c *Container) (ExitStatus, error)
}

// A Signaler sends a signal to the first process.
type Signaler interface {
	Signal(ctx context.Context, c *Container, sig syscall.Signal) error
}

// A Freezer stops and continues every process of a container.
type Freezer interface {
	Freeze(ctx context.Context, c *Container) error
	Thaw(ctx context.Context, c *Container) error
}

// An Updater changes limits while the container runs.
type Updater interface {
	// Plan is what Update would write, and in which order, without writing.
	Plan(c *Container, r cgroups.Resources) (cgroups.Plan, error)
	// Update changes what r names, all of it or nothing.
	Update(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error)
}

// A Statter measures a container.
type Statter interface {
	// Stat fills s, without allocating once s and c are warm.
	Stat(c *Container, s *cgroups.Stats) error
}

// A Watcher tells what happens to a container.
type Watcher interface {
	Watch(ctx context.Context, c *Container, pressure []elastic.Threshold) iter.Seq2[Event, error]
}

// A Releaser frees descriptors and goroutines kept for a container, which
// lives on.
type Releaser interface {
	Release(c *Container) error
}

// Container is what a driver and its isolators know of one sandbox.
type Container struct {
	// Spec is the sandbox as asked for, with Resources as last acknowledged.
	// Drivers read it.
	Spec Spec

	// Network is the sandbox's network, once the native driver's network
	// isolator has prepared it, or the host for a [Surrounded] driver; nil where the
	// spec asks for none.
	Network *netns.Attachment

	written   *written // its log; nil if it has none
	resolving string   // the directory with the files for its network's names; empty if there are none
	elsewhere bool     // the machine's network is not this process's

	// Private is the driver's own, for as long as this process lives.
	Private any

	groups  *cgroupIsolator // the host's
	group   atomic.Pointer[cgroups.Cgroup]
	main    *cgroups.Cgroup // the one below it that the processes are in, or nil
	record  *record
	watched func(*elastic.Watch) (end func()) // by the host, for events of its own
	ended   func(ExitStatus)                  // by the host, for its journal
	settled func(context.Context) error       // by the host: waits until no change is under way
	// groupless says that its group could not be made, so that there is none of it.
	groupless bool

	missing []string // what was asked for with leave to do without, and could not be had
}

// Cgroup is the sandbox's group: nil until it is made or found, which the native
// driver's cgroup isolator does before those that follow it, and where a driver has
// none. It may be called beside anything, and be another group the next time: a
// start that failed may have taken it away. The sandbox closes it.
func (c *Container) Cgroup() *cgroups.Cgroup { return c.group.Load() }

// SetCgroup is for the driver that has made or found the group. A group that it
// replaces is the caller's to close: whoever uses that meanwhile is told that it is
// gone.
func (c *Container) SetCgroup(g *cgroups.Cgroup) { c.group.Store(g) }

// Save keeps v, as JSON, for a later Recover: one appended line. If it fails,
// what was saved before still holds.
func (c *Container) Save(v any) error { return c.record.save(v) }

// saveLater is Save with the host's next line, for what only matters once that
// is there.
func (c *Container) saveLater(v any) { c.record.later(v) }

// Saved decodes what was saved last into v; ok is false if nothing was.
func (c *Container) Saved(v any) (ok bool, err error) {
	raw := c.record.saved()
	if raw == nil {
		return false, nil
	}
	return true, json.Unmarshal(raw, v)
}
