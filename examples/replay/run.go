// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/caisson-run/caisson/elastic"
)

// run is one variant's way through the recording.
type run struct {
	name    string
	planner *elastic.Planner // nil: what was decided at the time

	points  []point
	marks   []mark
	rungs   map[elastic.Rung]int
	refused int
	limits  map[string]float64 // cpu.max of each sandbox, as this variant set it
	sends   map[string]float64 // the same for what each link sends, in bits a second
}

// point is one snapshot.
type point struct {
	at         float64 // seconds
	machine    float64 // CPUs busy
	service    float64 // CPUs that latency-critical sandboxes use
	bestEffort float64 // CPUs that best-effort sandboxes used, when it was recorded
	allowed    float64 // CPUs that they may use, by this variant
	cpus       float64
	maySend    float64 // bits a second that those of them may send that are limited; 0 if none is
	slack      float64 // of the service that has the least; NaN if none says
	free       float64 // share of the memory
}

// mark is a step that one wants to see: a freeze, a thaw or a kill.
type mark struct {
	at   float64
	rung elastic.Rung
	what string
}

func (r *run) play(trace io.Reader) error {
	r.rungs, r.limits, r.sends = make(map[elastic.Rung]int), make(map[string]float64), make(map[string]float64)
	for rec, err := range elastic.ReadTrace(trace) {
		if err != nil {
			return err
		}
		var did []elastic.Correction
		if r.planner == nil {
			for _, d := range rec.Decisions {
				switch d.State {
				case elastic.Made, elastic.Dry:
					did = append(did, d.Correction)
				case elastic.Refused, elastic.Vetoed, elastic.Faulted:
					r.refused++
				case elastic.CameTrue, elastic.Missed: // told before
				}
			}
		} else {
			for _, p := range r.planner.Plan(rec.Snapshot) {
				if p.Refused != "" {
					r.refused++
					continue
				}
				did = append(did, p.Correction)
			}
		}
		r.note(rec.Snapshot, did)
	}
	if len(r.points) == 0 {
		return fmt.Errorf("no record")
	}
	return nil
}

// note adds up what was done after one snapshot.
func (r *run) note(s *elastic.Snapshot, did []elastic.Correction) {
	at := s.At.Seconds()
	for _, c := range did {
		r.rungs[c.Rung]++
		if cpus, ok := c.Resources.CPU.Max.CPUs(); ok {
			r.limits[c.Sandbox] = cpus
		} else if c.Resources.CPU.Max.IsMax() {
			delete(r.limits, c.Sandbox)
		}
		for _, l := range c.Network {
			if bits, ok := l.Egress.Value(); ok {
				r.sends[c.Sandbox+" "+l.Link] = float64(bits)
			} else if l.Egress.IsMax() {
				delete(r.sends, c.Sandbox+" "+l.Link)
			}
		}
		if c.Rung == elastic.Freeze || c.Rung == elastic.Kill || c.Thaws() {
			r.marks = append(r.marks, mark{at, c.Rung, c.String()})
		}
	}
	p := point{at: at, machine: s.Machine.CPU, cpus: s.Machine.CPUs, slack: noSlack}
	if s.Machine.Memory > 0 {
		p.free = float64(s.Machine.Free) / float64(s.Machine.Memory)
	}
	for i := range s.Sandboxes {
		u := &s.Sandboxes[i]
		switch u.Class {
		case elastic.BestEffort:
			p.bestEffort += u.CPU
			if limit, ok := r.limits[u.ID]; ok {
				p.allowed += limit
			} else {
				p.allowed += p.cpus
			}
			if u.Network != nil {
				for _, l := range u.Network.Links {
					p.maySend += r.sends[u.ID+" "+l.Link]
				}
			}
		case elastic.LatencyCritical:
			p.service += u.CPU
			if v, ok := u.Service.Slack(); ok {
				p.slack = min(p.slack, v)
			}
		case elastic.Standard:
		}
	}
	p.allowed = min(p.allowed, p.cpus)
	r.points = append(r.points, p)
}

// noSlack is above any slack there can be.
const noSlack = 2

// allowance is the mean of what best effort might use.
func (r *run) allowance() string {
	sum, n := 0.0, 0
	for _, p := range r.points {
		sum += p.allowed
		n++
	}
	return fmt.Sprintf("%.2f of %.0f CPUs", sum/float64(n), r.points[n-1].cpus)
}

// network is the mean of what best effort might send while it was limited, and for how
// much of the time it was.
func (r *run) network() string {
	sum, n := 0.0, 0
	for _, p := range r.points {
		if p.maySend > 0 {
			sum += p.maySend
			n++
		}
	}
	if n == 0 {
		return "anything"
	}
	return fmt.Sprintf("%.1f Mbit/s, %d%% of the time", sum/float64(n)/1e6, 100*n/len(r.points))
}
