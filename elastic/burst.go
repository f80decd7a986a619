// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// CPUBurst gives a service that its own cpu.max throttles more than its owner
// asked for, while the machine has CPUs to spare, and takes it back when it has
// not. It moves cpu.max of latency-critical sandboxes whose owner set one.
//
// The steps are those of Koordinator's quota burst: up by Up while throttled and
// the machine is less than Idle busy, to Most times the asked at most; down by
// Down while it is busier, and when nothing was throttled for Quiet. Between
// 0.9*Idle and Idle nothing moves.
//
// The zero value has the defaults given at each field.
type CPUBurst struct {
	Up    float64       // 0 is 1.2
	Down  float64       // 0 is 0.8
	Most  float64       // 0 is 3
	Idle  float64       // busy share of the machine's CPUs; 0 is 0.5
	Quiet time.Duration // 0 is 60 s

	calm map[string]time.Duration // when each burst one was last throttled
}

// Name is "cpu-burst".
func (*CPUBurst) Name() string { return "cpu-burst" }

// Levers is cpu.max of latency-critical sandboxes.
func (*CPUBurst) Levers() []Lever { return []Lever{{LatencyCritical, KnobCPUMax}} }

// Decide scales the quotas of throttled services.
func (p *CPUBurst) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 || s.Machine.CPUs <= 0 {
		return nil
	}
	calm := make(map[string]time.Duration)
	var out []Correction
	busy, idle := s.Machine.CPU/s.Machine.CPUs, cmp.Or(p.Idle, 0.5)
	for u := range s.running(LatencyCritical) {
		if u.CPUBase <= 0 || u.CPUMax <= 0 {
			continue
		}
		last, burst := p.calm[u.ID]
		if u.Throttled > 0 || !burst {
			last = s.At
		}
		calm[u.ID] = last
		ceiling := min(u.CPUBase*cmp.Or(p.Most, 3), max(u.CPUBase, s.Machine.CPUs))
		want, why := u.CPUMax, ""
		switch {
		case busy >= idle:
			want, why = u.CPUMax*cmp.Or(p.Down, 0.8), fmt.Sprintf("the machine is %.0f%% busy", 100*busy)
		case u.Throttled > 0 && busy < 0.9*idle:
			want = u.CPUMax * cmp.Or(p.Up, 1.2)
			why = fmt.Sprintf("%.0f%% of its periods were throttled, and the machine is %.0f%% busy", 100*u.Throttled, 100*busy)
		case s.At-last >= cmp.Or(p.Quiet, time.Minute):
			want, why = u.CPUMax*cmp.Or(p.Down, 0.8), fmt.Sprintf("nothing was throttled for %v", s.At-last)
		}
		want = max(min(max(want, u.CPUBase), ceiling), leastCPUs)
		if diff := want - u.CPUMax; diff > -0.005 && diff < 0.005 {
			continue
		}
		c := Correction{Policy: p.Name(), Sandbox: u.ID, Rung: Throttle, Reason: why}
		if want > u.CPUMax {
			c.Rung = Release
			c.Expect = Expectation{Figure: FigureThrottled, Of: u.ID, Most: u.Throttled, Within: 5 * time.Second}
		}
		c.Resources.CPU.Max = cgroups.CPUs(want)
		c.Reason += fmt.Sprintf(": %.2f CPUs, of %.2f asked for", want, u.CPUBase)
		out = append(out, c)
	}
	p.calm = calm
	return out
}
