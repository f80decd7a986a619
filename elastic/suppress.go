// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// CPUSuppress bounds the CPUs of all best-effort sandboxes together by what the
// others leave, and, if services report their latency, by what these can bear.
// It sets cpu.max of each best-effort sandbox, dividing the allowance max-min
// fairly by demand, and gives back what their owners asked for when there are no
// others to protect.
//
// The formula without services is Koordinator's CPU suppress: allowance =
// Share*CPUs - what everybody else uses; growing by at most Step*CPUs at a time
// and ignoring changes below Ignore*CPUs. What use fluctuates by moves nothing:
// more use by others counts at once, and less only once it has been clearly less
// for Settle; CPUs go from a sandbox that leaves them to one that wants more once
// in Settle at most. The loop with services is that of
// Heracles (Lo et al., ISCA 2015): a service whose slack is below Hold lets nothing
// grow, above it the allowance grows by a part of Step, and below Shrink it shrinks
// in proportion, as HyperPilot's does. A violated target takes a part of it at once, Cut times the share by
// which it is violated, and again each Settle for which that lasts; nothing grows
// for Cooloff. Heracles takes all, which a service next to its target pays with all
// of the batch work for each bad second. A load above LoadHigh keeps the allowance
// at Floor until the load is below LoadLow.
//
// The zero value has the defaults given at each field.
type CPUSuppress struct {
	Share  float64 // of the CPUs that may be busy in all; 0 is 0.65, as Koordinator's
	Floor  float64 // CPUs that best effort always has; 0 is 0.05 of the CPUs
	Step   float64 // of the CPUs, by which the allowance grows at most in a snapshot; 0 is 0.1
	Ignore float64 // of the CPUs, below which a change is not made; 0 is 0.01

	Settle time.Duration // how long less use by others, or by one of best effort, must last; 0 is 5 s

	Hold     float64       // 0 is 0.10
	Shrink   float64       // 0 is 0.05
	Rate     float64       // how fast slack becomes growth and want of it shrinkage; 0 is 1
	LoadHigh float64       // 0 is 0.85
	LoadLow  float64       // 0 is 0.80
	Cut      float64       // 0 is 2: a target that is missed by half takes all but Floor
	Cooloff  time.Duration // 0 is 15 s

	allowance float64       // what latency allows; 0 before the first snapshot
	overload  bool          // above LoadHigh, and not below LoadLow since
	until     time.Duration // the end of the cool-off
	cut       time.Duration // when the allowance was last cut, in the cool-off

	begun   bool
	others  float64            // what everybody else uses, as far as it counts
	peak    float64            // the most of what they used since less
	less    time.Duration      // since when they have used clearly less
	divided time.Duration      // when each last got its share
	most    map[string]float64 // CPUs that each of best effort used at most lately
}

// Name is "cpu-suppress".
func (*CPUSuppress) Name() string { return "cpu-suppress" }

// Levers is cpu.max of best effort.
func (*CPUSuppress) Levers() []Lever { return []Lever{{BestEffort, KnobCPUMax}} }

// Decide gives each best-effort sandbox its share of the allowance.
func (p *CPUSuppress) Decide(s *Snapshot) []Correction {
	if s.Elapsed <= 0 || s.Machine.CPUs <= 0 {
		return nil
	}
	var ours []*Use
	used := 0.0
	for u := range s.running(BestEffort) {
		ours = append(ours, u)
		used += u.CPU
	}
	cpus := s.Machine.CPUs
	floor := min(cmp.Or(p.Floor, 0.05*cpus), cpus)
	others := p.settled(s, max(0, s.Machine.CPU-used))
	free := cmp.Or(p.Share, 0.65)*cpus - others
	why := fmt.Sprintf("others use %.2f of %.0f CPUs", others, cpus)
	bound, reason := p.bear(s, floor, used)
	if bound < free {
		free, why = bound, reason
	}
	return p.divide(s, ours, min(max(free, floor), cpus), why)
}

// settled is what everybody else uses, without what it only fluctuates by.
func (p *CPUSuppress) settled(s *Snapshot, now float64) float64 {
	band := cmp.Or(p.Ignore, 0.01) * s.Machine.CPUs
	switch {
	case !p.begun || now > p.others+band:
		p.others, p.less, p.peak = now, s.At, 0
		return now
	case now > p.others-5*band:
		p.less, p.peak = s.At, 0
		return p.others
	}
	p.peak = max(p.peak, now)
	if s.At-p.less >= p.settle() {
		p.others, p.less, p.peak = p.peak, s.At, 0
	}
	return p.others
}

func (p *CPUSuppress) settle() time.Duration { return cmp.Or(p.Settle, 5*time.Second) }

// leastCPUs is the least that the kernel takes with a period of 100 ms.
const leastCPUs = 0.01

// demand is what a sandbox could use: as much as there is if its limit holds it
// back, otherwise a quarter more than it lately did at most. A tenth of that is
// forgotten in each Settle, so who only rests keeps its share.
func (p *CPUSuppress) demand(s *Snapshot, u *Use) float64 {
	forgotten := 0.1 * min(1, s.Elapsed.Seconds()/p.settle().Seconds())
	p.most[u.ID] = max(u.CPU, p.most[u.ID]*(1-forgotten))
	if u.CPUMax > 0 && (u.CPU >= 0.9*u.CPUMax || u.Throttled > 0) {
		return math.Inf(1)
	}
	return 1.25 * p.most[u.ID]
}

// bear is how many CPUs the services can bear to see used, by their own word;
// without any that says something, all of them. used is what is used now.
func (p *CPUSuppress) bear(s *Snapshot, floor, used float64) (cpus float64, why string) {
	worst, slack := (*Use)(nil), math.Inf(1)
	load := 0.0
	for u := range s.running(LatencyCritical) {
		if v, ok := u.Service.Slack(); ok && v < slack {
			worst, slack = u, v
		}
		if u.Service != nil {
			load = max(load, u.Service.Load)
		}
	}
	all := s.Machine.CPUs
	switch {
	case load > cmp.Or(p.LoadHigh, 0.85):
		p.overload = true
	case load < cmp.Or(p.LoadLow, 0.80):
		p.overload = false
	}
	if p.allowance == 0 {
		p.allowance = floor
	}
	step := cmp.Or(p.Step, 0.1) * all
	rate := cmp.Or(p.Rate, 1)
	hold, shrink := cmp.Or(p.Hold, 0.10), cmp.Or(p.Shrink, 0.05)
	switch {
	case p.overload:
		p.allowance = floor
		return floor, fmt.Sprintf("a service is at %.0f%% of its load", 100*load)
	case worst == nil:
		// Nobody complains: by the formula of what is left alone.
		p.allowance = min(all, p.allowance+step)
		return all, ""
	case slack < 0:
		// What is reported until it has settled is from before the cut.
		if s.At >= p.until || s.At-p.cut >= p.settle() {
			p.cut = s.At
			p.allowance = max(floor, min(p.allowance, used)*(1+cmp.Or(p.Cut, 2)*slack))
		}
		p.until = s.At + cmp.Or(p.Cooloff, 15*time.Second)
	case s.At < p.until:
	case slack < shrink:
		p.allowance = max(floor, p.allowance*(1+rate*(slack-shrink)))
	case slack >= hold:
		// A whole step where slack is twice Hold, and less the nearer it is to
		// Hold: not past the target at once.
		least := cmp.Or(p.Ignore, 0.01) * all
		p.allowance = min(all, p.allowance+min(step, max(least, step*rate*(slack-hold)/hold)))
	}
	return p.allowance, fmt.Sprintf("%s has %v of its %v, slack %.0f%%",
		worst.ID, worst.Service.Latency, worst.Service.Target, 100*slack)
}

// divide gives each its share, if there is a reason to.
func (p *CPUSuppress) divide(s *Snapshot, ours []*Use, allowance float64, why string) []Correction {
	cpus := s.Machine.CPUs
	if p.most == nil {
		p.most = make(map[string]float64)
	}
	maps.DeleteFunc(p.most, func(id string, _ float64) bool { return s.Find(id) == nil })
	ignore := cmp.Or(p.Ignore, 0.01) * cpus
	// Together they grow by one step at most.
	demands, had, limited := make([]float64, len(ours)), 0.0, true
	for i, u := range ours {
		demands[i] = p.demand(s, u)
		had += u.CPUMax
		limited = limited && u.CPUMax > 0
	}
	if limited && len(ours) > 0 {
		allowance = min(allowance, had+cmp.Or(p.Step, 0.1)*cpus)
	}
	want, sum, lacks := shares(allowance, demands), 0.0, false
	for i, u := range ours {
		if u.CPUBase > 0 {
			want[i] = min(want[i], u.CPUBase)
		}
		want[i] = max(want[i], leastCPUs)
		sum += want[i]
		lacks = lacks || math.IsInf(demands[i], 1) && want[i] > u.CPUMax+ignore
	}
	protected := slices.ContainsFunc(s.Sandboxes, func(u Use) bool { return u.Class != BestEffort })
	due := !p.begun || !limited || math.Abs(sum-had) > ignore || lacks && s.At-p.divided >= p.settle()
	p.begun = true
	if protected {
		if !due {
			return nil
		}
		p.divided = s.At
	}
	var out []Correction
	for i, u := range ours {
		c := Correction{Policy: p.Name(), Sandbox: u.ID, Rung: Throttle}
		switch {
		case !protected && u.CPUMax == u.CPUBase:
			continue
		case !protected:
			c.Rung, c.Reason = Release, "there is nobody else to protect"
			c.Resources.CPU.Max = cgroups.NoQuota()
			if u.CPUBase > 0 {
				c.Resources.CPU.Max = cgroups.CPUs(u.CPUBase)
			}
		case u.CPUMax > 0 && math.Abs(want[i]-u.CPUMax) < ignore/float64(len(ours)):
			continue
		default:
			if u.CPUMax > 0 && want[i] > u.CPUMax {
				c.Rung = Release
			}
			c.Resources.CPU.Max = cgroups.CPUs(want[i])
			c.Reason = fmt.Sprintf("%s: %.2f CPUs for all best effort, %.2f for this one", why, allowance, want[i])
			c.Expect = Expectation{Figure: FigureCPU, Of: u.ID, Most: 1.1*want[i] + 0.05, Within: 5 * time.Second}
		}
		out = append(out, c)
	}
	return out
}
