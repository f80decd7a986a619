// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"iter"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// A Target is a sandbox as this package sees it. All methods may be called from
// any goroutine; an error that matches [cgroups.ErrGone] says that the sandbox is
// no more, which is nobody's fault.
type Target interface {
	ID() string
	Class() Class

	// Asked are the limits that its owner asked for.
	Asked() cgroups.Resources

	// Limits are the knobs of the named controllers that hold now. More than
	// these do no harm.
	Limits(of ...cgroups.Controller) (cgroups.Resources, error)

	// Stat measures it, without allocating once s is warm.
	Stat(s *cgroups.Stats) error

	// Squeeze has limits hold in the place of what its owner asked for: those
	// that r names, and of those named before the ones that it does not. They
	// end by themselves [SqueezeLasts] after the last call, so that nobody stays
	// squeezed whose controller has died.
	Squeeze(ctx context.Context, r cgroups.Resources) error

	// Reclaim takes up to bytes of memory that it does not use now.
	Reclaim(ctx context.Context, bytes uint64) error

	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	Frozen() (bool, error)

	// Kill ends every process. What remains of the sandbox is its owner's.
	Kill(ctx context.Context) error

	// Service is what it reports of its own work; nil if nothing.
	Service() *Service
}

// A Corrected is a [Target] that keeps a record of why it was frozen, thawed or
// killed.
type Corrected interface {
	// Corrected is called once the correction is made.
	Corrected(c Correction)
}

// SqueezeLasts is how long limits of a [Target] last that are not set again. A
// controller does so every third of it.
const SqueezeLasts = time.Minute

// A Fleet is the sandboxes of one machine.
type Fleet interface {
	// Targets are the sandboxes that run now.
	Targets() iter.Seq[Target]

	// Pressure is the machine's own.
	Pressure(r cgroups.PressureResource, p *cgroups.Pressure) error
}

// An Announcing fleet tells when there is a target more. A [Controller] whose policies
// are [Greeter]s asks a Fleet that is one, and does not let what is new wait for the
// next look.
type Announcing interface {
	// Announce has f called after each target that is new, from any goroutine, until
	// stop is called. f does not block.
	Announce(f func()) (stop func())
}

// A Bounded fleet has less memory than its machine. A [Meter] asks a Fleet that
// is one, and what it says counts as the machine's memory.
type Bounded interface {
	// Memory is the limit of all sandboxes together, and what they use of it
	// and could not give back at once; ok is false if there is no limit.
	Memory() (limit, used uint64, ok bool, err error)
}

// A Placed fleet has cpusets. A [Meter] whose policies move them asks a Fleet that
// is one.
type Placed interface {
	// CPUs are those that sandboxes may run on. An error that matches
	// [cgroups.ErrNotSupported] says that there are no cpusets.
	CPUs() (cgroups.Set, error)
}
