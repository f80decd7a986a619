// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// above is a group whose pressure tells whether that of any group below it can
// have grown: who stalls, stalls in every group above as well. So while nothing
// below it lacks a resource, one read a tick serves all.
type above struct {
	cg     *cgroups.Cgroup // nil: there is none
	prefix string
	tick   uint64 // of the engine, in which seen was read
	seen   [cgroups.PressureIO + 1]moment
}

// moment is the pressure of one resource in one tick.
type moment struct {
	tick  uint64
	at    time.Duration
	total int64 // -1: unknown
}

// Above says that groups are watched which are somewhere below cg: the engine then
// samples them only while something below cg stalls for the same resource. It is to
// be called before the first [Engine.Watch], once; cg must stay open until the
// engine is closed. Without it every group is sampled for itself.
func (e *Engine) Above(cg *cgroups.Cgroup) {
	e.above.cg, e.above.prefix = cg, cg.Path()+"/"
}

// covers reports whether cg is below.
func (a *above) covers(cg *cgroups.Cgroup) bool {
	return a.cg != nil && strings.HasPrefix(cg.Path(), a.prefix)
}

// stalled is how long somebody above has stalled, as of the present tick. It is for
// functions that the poller calls.
func (e *Engine) stalled(r cgroups.PressureResource) moment {
	a := &e.above
	m := &a.seen[r]
	if m.tick != a.tick {
		var p cgroups.Pressure
		*m = moment{tick: a.tick, at: e.now(), total: -1}
		if err := a.cg.Pressure(r, &p); err == nil && p.Some.Present {
			m.total = int64(p.Some.Total)
		}
	}
	return *m
}
