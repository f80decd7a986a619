// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"strings"
)

// A Change is one write to one file of a group.
type Change struct {
	Controller Controller `json:"controller"`
	Knob       string     `json:"knob"` // in v2's words: "cpu.max"
	File       string     `json:"file"` // "cpu.max", "cpu.cfs_quota_us"
	Path       string     `json:"path"`
	Old        string     `json:"old"`           // what the file, or its line, held
	New        string     `json:"new"`           // what is written
	Now        string     `json:"now,omitempty"` // what the kernel holds after an update
	Why        string     `json:"why,omitempty"` // why at all, or why at this place in the order

	do      write
	undo    []write                  // what brings Old back, in order
	check   string                   // the file to read back, if not File
	canon   func(text string) string // the part of that file that this change is about
	want    string                   // what canon gives when the kernel took New
	passing bool                     // a later change is about the same, so want need not hold in the end
	keeps   string                   // another file that must go on holding kept, if any
	kept    string
}

// String reads `write "50000 100000" to /sys/fs/cgroup/a/cpu.max, was "max
// 100000": the reason`, in one line.
func (c Change) String() string {
	s := fmt.Sprintf("write %q to %s, was %q", c.New, c.Path, c.Old)
	if c.Why != "" {
		s += ": " + c.Why
	}
	return s
}

// write is one write(2).
type write struct {
	ctl        Controller
	file, data string
	guard      guard
}

// guard forbids a write while the number in file is above limit: a
// memory.max below the usage kills.
type guard struct {
	file  string // empty: none
	limit uint64
}

// A Plan is what an update does: every write, in order.
type Plan struct {
	Changes []Change    `json:"changes"`          // none if everything already is as wanted
	Enable  Controllers `json:"enable,omitempty"` // the group is brought under these first

	wanted Resources
}

// Wanted is what the plan was made for.
func (p Plan) Wanted() Resources { return p.wanted.Clone() }

// String is the plan in words, one line a write.
func (p Plan) String() string {
	if len(p.Changes) == 0 && p.Enable == 0 {
		return "nothing to change"
	}
	var b strings.Builder
	if p.Enable != 0 {
		fmt.Fprintf(&b, "0. bring the group under %s\n", p.Enable)
	}
	for i, c := range p.Changes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, c)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// A tree is where a plan reads and writes. A file "../x" is the parent
// group's, "/x" the hierarchy's top's.
type tree interface {
	version(ctl Controller) int // 1 or 2; 0 if there is no such controller
	read(ctl Controller, file string) (string, error)
	write(ctl Controller, file, data string) error
	path(ctl Controller, file string) string
	children(ctl Controller) bool // whether there may be groups below this one
}

// planner collects changes. It reads the tree and writes nothing, so the same
// tree and resources give the same plan.
type planner struct {
	tree
	page    uint64 // the machine's page size
	changes []Change
}

// plan is pure but for reading t. Controllers are independent of each other;
// memory comes last because what a shrink reclaims is not given back by undoing
// it, so everything that may be refused should have been by then.
func plan(t tree, page uint64, r Resources) ([]Change, error) {
	p := &planner{tree: t, page: page}
	err := errors.Join(
		p.pids(r.PIDs),
		p.cpuset(r.CPUSet),
		p.cpu(r.CPU),
		p.io(r.IO),
		p.hugetlb(r.HugeTLB),
		p.rdma(r.RDMA),
		p.misc(r.Misc),
		p.devices(r.Devices),
		p.memory(r.Memory),
	)
	if err != nil {
		return nil, err
	}
	return p.changes, nil
}

// under returns the version of the hierarchy that ctl is in.
func (p *planner) under(ctl Controller) (int, error) {
	v := p.version(ctl)
	if v == 0 {
		return 0, &UnsupportedError{Feature: ctl.String(), Reason: "no mounted hierarchy has this controller"}
	}
	return v, nil
}

// knob reads the file that holds a knob. A kernel without the file lacks the
// knob.
func (p *planner) knob(ctl Controller, knob, file string) (string, error) {
	s, err := p.read(ctl, file)
	if isAbsent(err) {
		return "", &UnsupportedError{Feature: knob, Since: since[knob], Reason: "this kernel has no file " + file}
	}
	return s, err
}

// since is when a knob came, for messages only.
var since = map[string]string{
	"cpu.idle":              "Linux 5.15",
	"cpu.max.burst":         "Linux 5.14",
	"cpuset.cpus.partition": "Linux 5.0",
	"memory.min":            "Linux 4.18",
	"memory.oom.group":      "Linux 4.19",
	"memory.swap.high":      "Linux 5.8",
	"io.latency":            "Linux 4.19",
	"misc.max":              "Linux 5.13",
}

// notOnV1 refuses a knob for which v1 has no file.
func notOnV1(knob, instead string) error {
	reason := "cgroup v1 has no such file"
	if instead != "" {
		reason += "; " + instead
	}
	return &UnsupportedError{Feature: knob, Reason: reason}
}

// add completes a change whose file holds just the value and appends it.
func (p *planner) add(c Change) {
	c.Path = p.path(c.Controller, c.File)
	c.do.ctl, c.do.file, c.do.data = c.Controller, c.File, c.New
	if c.undo == nil {
		c.undo = []write{{ctl: c.Controller, file: c.File, data: c.Old}}
	}
	if c.check == "" {
		c.check = c.File
	}
	if c.canon == nil {
		c.canon, c.want = strings.TrimSpace, c.New
	}
	p.changes = append(p.changes, c)
}

// simple adds the change of a file that reads back as it is written, unless it
// holds want already.
func (p *planner) simple(ctl Controller, knob, want, why string) error {
	old, err := p.knob(ctl, knob, knob)
	if err != nil || old == want {
		return err
	}
	p.add(Change{Controller: ctl, Knob: knob, File: knob, Old: old, New: want, Why: why})
	return nil
}
