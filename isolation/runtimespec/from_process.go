// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/isolation"
)

func (r *reader) process() {
	p := r.spec.Process
	if p == nil {
		r.bad("process", "", "a sandbox has one")
		return
	}
	out := &r.s.Process
	out.Args, out.Env, out.Terminal, out.NewPrivileges = slices.Clone(p.Args), slices.Clone(p.Env), p.Terminal, !p.NoNewPrivileges
	if out.Dir = p.Cwd; p.Cwd == "/" {
		out.Dir = ""
	}
	out.User = isolation.User{UID: p.User.UID, GID: p.User.GID, Groups: slices.Clone(p.User.AdditionalGids)}
	if p.User.Umask != nil {
		r.leave("process.user.umask", fmt.Sprintf("%#o", *p.User.Umask), "the umask is the caller's")
	}
	r.given("process.user.username", p.User.Username, otherSystem)
	r.given("process.commandLine", p.CommandLine, otherSystem)
	r.given("process.apparmorProfile", p.ApparmorProfile, noLSM)
	r.given("process.selinuxLabel", p.SelinuxLabel, noLSM)
	if p.ConsoleSize != nil {
		r.leave("process.consoleSize", fmt.Sprintf("%d lines, %d columns", p.ConsoleSize.Height, p.ConsoleSize.Width), "Terminal.Resize sets it")
	}
	if p.ExecCPUAffinity != nil {
		r.leave("process.execCPUAffinity", p.ExecCPUAffinity.Initial+" "+p.ExecCPUAffinity.Final, "what is executed later runs where the first process may")
	}
	out.OOMScoreAdj = copied(p.OOMScoreAdj)
	for _, l := range p.Rlimits {
		name, ok := strings.CutPrefix(l.Type, "RLIMIT_")
		if !ok {
			r.bad("process.rlimits", l.Type, "not RLIMIT_ and a name")
		}
		out.Rlimits = append(out.Rlimits, isolation.Rlimit{Name: strings.ToLower(name), Soft: l.Soft, Hard: l.Hard})
	}
	r.capabilities(p)
	r.scheduling(p)
}

// bounding is what the process keeps of the capabilities that there are.
func (r *reader) bounding() (names []string) {
	p := r.spec.Process
	if p == nil || p.Capabilities == nil {
		return nil
	}
	known := isolation.KnownCapabilities()
	for _, n := range p.Capabilities.Bounding {
		if slices.Contains(known, n) {
			names = append(names, n)
		}
	}
	return names
}

func (r *reader) capabilities(p *specs.Process) {
	out := &r.s.Process
	bounding := r.bounding()
	if out.Capabilities = bounding; bounding == nil {
		out.Capabilities = []string{}
	}
	if sameSet(bounding, isolation.DefaultCapabilities()) {
		out.Capabilities = nil
	}
	c := p.Capabilities
	if c == nil {
		return
	}
	for _, n := range c.Bounding {
		if !slices.Contains(bounding, n) {
			r.leave("process.capabilities.bounding", n, "no capability of this name is known")
		}
	}
	for _, set := range []struct {
		name string
		list []string
		all  bool // it is the bounding set, for root
	}{
		{"effective", c.Effective, true}, {"permitted", c.Permitted, true},
		{"inheritable", c.Inheritable, false}, {"ambient", c.Ambient, false},
	} {
		// Executing a program makes the first two the bounding set for root and
		// empty for everybody else. The others add nothing for root.
		root := p.User.UID == 0
		switch {
		case root && subset(set.list, c.Bounding) && (!set.all || sameSet(set.list, c.Bounding)):
		case !root && set.all && subset(set.list, c.Bounding):
		case len(set.list) == 0 && !set.all:
		default:
			r.leave("process.capabilities."+set.name, strings.Join(set.list, " "), "it is the bounding set's for root, and nothing for others")
		}
	}
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(n string) bool { return !slices.Contains(b, n) })
}

func sameSet(a, b []string) bool { return subset(a, b) && subset(b, a) }

func (r *reader) scheduling(p *specs.Process) {
	out := &r.s.Process.Scheduling
	if s := p.Scheduler; s != nil {
		policy, ok := find(policies, s.Policy)
		if !ok {
			r.leave("process.scheduler.policy", s.Policy, "not other, batch, idle, fifo or rr")
		}
		if out.Policy = policy; ok {
			out.Priority = int(s.Priority)
		}
		nice := int(s.Nice)
		switch policy {
		case isolation.PolicyOther, isolation.PolicyBatch:
			out.Nice = &nice
		case isolation.PolicyIdle, isolation.PolicyFIFO, isolation.PolicyRR:
			if nice != 0 {
				r.leave("process.scheduler.nice", nice, "the policy has none")
			}
		}
		for _, f := range s.Flags {
			r.leave("process.scheduler.flags", f, "no flags are set")
		}
		if s.Runtime != 0 || s.Deadline != 0 || s.Period != 0 {
			r.leave("process.scheduler.runtime", fmt.Sprintf("%d of %d, period %d", s.Runtime, s.Deadline, s.Period), "of SCHED_DEADLINE")
		}
	}
	if s := p.IOPriority; s != nil {
		class, ok := find(ioClasses, s.Class)
		if !ok {
			r.bad("process.ioPriority.class", s.Class, "no class of ioprio_set(2)")
		}
		if out.IOClass = class; class == isolation.IOIdle && s.Priority != 0 {
			r.leave("process.ioPriority.priority", s.Priority, "the idle class has none")
		} else {
			out.IOLevel = s.Priority
		}
	}
}

// find is the key of a value.
func find[K comparable, V comparable](m map[K]V, v V) (K, bool) {
	for k, w := range m {
		if w == v {
			return k, true
		}
	}
	var none K
	return none, false
}
