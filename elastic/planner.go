// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"fmt"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Planner asks policies for corrections and admits those that the rules of the
// ladder allow. It is as pure as the policies are: the same snapshots give the
// same plans, live and from a recording.
//
// The rules: a policy moves only its own levers; only best-effort sandboxes are
// frozen or killed; a sandbox is killed only after something milder was done to
// it within the last minute, and kills are at least KillEvery apart.
type Planner struct {
	policies  []Policy
	killEvery time.Duration

	mild     map[string]time.Duration // when something short of a kill was last done to each sandbox
	lastKill time.Duration
	killed   bool
}

// mildFor is how long a milder correction counts as tried.
const mildFor = time.Minute

// NewPlanner makes a planner of policies, in the order in which they are asked.
// killEvery 0 is 15 s, oomd's delay after an action.
//
// It returns an error that matches [cgroups.ErrInvalid] if two of the policies
// share a name or a lever.
func NewPlanner(policies []Policy, killEvery time.Duration) (*Planner, error) {
	if killEvery <= 0 {
		killEvery = 15 * time.Second
	}
	names, levers := make(map[string]bool), make(map[Lever]string)
	for _, p := range policies {
		if p == nil || p.Name() == "" {
			return nil, &cgroups.InvalidError{Field: "policies", Value: fmt.Sprintf("%T", p), Reason: "nil, or without a name"}
		}
		if names[p.Name()] {
			return nil, &cgroups.InvalidError{Field: "policies", Value: p.Name(), Reason: "another policy has this name"}
		}
		names[p.Name()] = true
		for _, l := range p.Levers() {
			if owner, taken := levers[l]; taken {
				return nil, &cgroups.InvalidError{
					Field: "policies", Value: p.Name(), Reason: fmt.Sprintf("%s is moved by %s already", l, owner),
				}
			}
			levers[l] = p.Name()
		}
	}
	return &Planner{policies: policies, killEvery: killEvery, mild: make(map[string]time.Duration)}, nil
}

// Planned is a correction and, if it was not admitted, why.
type Planned struct {
	Correction
	Refused string `json:"refused,omitempty"`
}

// Plan is what the policies want done now, in order. About a snapshot because of new
// sandboxes only the [Greeter]s among them are asked.
func (p *Planner) Plan(s *Snapshot) []Planned {
	for id, at := range p.mild {
		if s.Find(id) == nil || s.At-at > mildFor {
			delete(p.mild, id)
		}
	}
	var out []Planned
	for _, policy := range p.policies {
		for _, c := range ask(policy, s) {
			out = append(out, Planned{c, p.admit(s, policy, c)})
		}
	}
	return out
}

// ask is what the policy has to say to s.
func ask(policy Policy, s *Snapshot) []Correction {
	if s.New == nil {
		return policy.Decide(s)
	}
	if g, ok := policy.(Greeter); ok {
		return g.Greet(s)
	}
	return nil
}

// admit returns why c must not be done, or nothing.
func (p *Planner) admit(s *Snapshot, by Policy, c Correction) string {
	if c.Policy != by.Name() {
		return "it is signed by another policy"
	}
	if err := c.Validate(); err != nil {
		return err.Error()
	}
	u := s.Find(c.Sandbox)
	if u == nil {
		return "there is no such sandbox"
	}
	if why := ownsLevers(by, u, c); why != "" {
		return why
	}
	switch c.Rung {
	case Kill:
		switch {
		case u.Class != BestEffort:
			return "only best-effort sandboxes are killed"
		case !p.tried(s, c.Sandbox):
			return "nothing milder was tried within the last minute"
		case p.killed && s.At-p.lastKill < p.killEvery:
			return fmt.Sprintf("the last kill was %v ago, less than %v", s.At-p.lastKill, p.killEvery)
		}
		p.killed, p.lastKill = true, s.At
	case Freeze:
		if u.Class != BestEffort {
			return "only best-effort sandboxes are frozen"
		}
		p.mild[c.Sandbox] = s.At
	case Throttle, Reclaim:
		p.mild[c.Sandbox] = s.At
	case Release:
	}
	return ""
}

// tried reports whether something milder than a kill was done lately, or still
// holds.
func (p *Planner) tried(s *Snapshot, id string) bool {
	_, lately := p.mild[id]
	return lately || s.Find(id).Frozen
}

// ownsLevers returns why by may not do c to u, or nothing.
func ownsLevers(by Policy, u *Use, c Correction) string {
	has := make(map[Lever]bool)
	for _, l := range by.Levers() {
		has[l] = true
	}
	for _, knob := range c.knobs() {
		if l := (Lever{u.Class, knob}); !has[l] {
			return fmt.Sprintf("%s is no lever of %s", l, by.Name())
		}
	}
	return ""
}

// knobs are what c moves.
func (c Correction) knobs() []Knob {
	switch {
	case c.Rung == Kill:
		return []Knob{KnobKill}
	case c.Rung == Freeze, c.Thaws():
		return []Knob{KnobFreeze}
	}
	var list []Knob
	for _, l := range c.Network {
		if !l.Egress.IsZero() {
			list = append(list, KnobEgress)
		}
		if !l.Ingress.IsZero() {
			list = append(list, KnobIngress)
		}
	}
	for _, name := range c.Resources.Names() {
		knob, _, _ := strings.Cut(name, " ") // "io.max 8:0 rbps"
		list = append(list, Knob(knob))
	}
	return list
}
