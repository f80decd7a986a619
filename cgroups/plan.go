// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Change is one write to one file of a group.
type Change struct {
	Cgroup     string     `json:"cgroup"` // the group's path
	Controller Controller `json:"controller"`
	Knob       string     `json:"knob"` // in v2's words: "cpu.max"
	File       string     `json:"file"` // "cpu.max", "cpu.cfs_quota_us"
	Path       string     `json:"path"`
	Old        string     `json:"old"`              // what the file, or its line, held
	New        string     `json:"new"`              // what is written
	Now        string     `json:"now,omitempty"`    // what the kernel holds after an update
	Why        string     `json:"why,omitempty"`    // why at all, or why at this place in the order
	Shrunk     *Shrunk    `json:"shrunk,omitempty"` // how a limit came below the usage, if it had to

	in      tree    // the group's files, until the update is done
	of      *Cgroup // the group, then
	place   string  // the group's path in the controller's tree
	stage   stage   // when it has its turn
	passing bool    // a later change is about the same, so want need not hold in the end
	keeps   bool    // the other file must not change
	slow    bool    // the kernel reclaims before the write returns
	guard   guard
	undo    []write                  // what brings Old back, in order; none: writing Old
	check   string                   // the file to read back, if not File
	line    string                   // the line of that file that this change is about, if not the whole
	canon   func(text string) string // the part of that file that this change is about; nil: all
	want    string                   // what canon gives when the kernel took New
	was     string                   // what canon gave before the update; "": what it gives for Old

	other    string // another file that the write may change too, and that undoing it must bring back
	otherWas string

	lowering *lowering // it is done in steps
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

// checked is the file that tells whether the change holds.
func (c *Change) checked() string {
	if c.check != "" {
		return c.check
	}
	return c.File
}

// part is what the change is about in the text of the checked file.
func (c *Change) part(text string) string {
	if c.canon == nil {
		return text
	}
	return c.canon(text)
}

// before is the part as it was.
func (c *Change) before() string {
	if c.was != "" || c.canon == nil {
		return c.was
	}
	return c.canon(c.Old)
}

// same reports whether both are about the same part of the same file.
func (c *Change) same(o *Change) bool {
	return c.in == o.in && c.Controller == o.Controller && c.checked() == o.checked() && c.line == o.line
}

// write is one write(2).
type write struct {
	file, data string
	guard      guard
	instead    string // what undoing writes where the kernel refuses to have a list empty again
}

// guard forbids a write while the number in file is above limit: a
// memory.max below the usage kills.
type guard struct {
	file  string // empty: none
	limit uint64
}

// A Plan is what an update does: every write, in order.
type Plan struct {
	Changes []Change   `json:"changes"`          // none if everything already is as wanted
	Enable  []Enabling `json:"enable,omitempty"` // done first

	wanted []GroupResources
}

// Enabling brings a group under controllers. It is not taken back when an
// update fails.
type Enabling struct {
	Cgroup      string      `json:"cgroup"`
	Controllers Controllers `json:"controllers"`
}

// Wanted is what a plan for one group was made for. It is zero if there were
// more; see [Plan.WantedAll].
func (p Plan) Wanted() Resources {
	if len(p.wanted) != 1 {
		return Resources{}
	}
	return p.wanted[0].Resources.Clone()
}

// WantedAll is what the plan was made for.
func (p Plan) WantedAll() []GroupResources {
	all := slices.Clone(p.wanted)
	for i := range all {
		all[i].Resources = all[i].Resources.Clone()
	}
	return all
}

// String is the plan in words, one line a write.
func (p Plan) String() string {
	if len(p.Changes) == 0 && len(p.Enable) == 0 {
		return "nothing to change"
	}
	var b strings.Builder
	for _, e := range p.Enable {
		fmt.Fprintf(&b, "0. bring %s under %s\n", e.Cgroup, e.Controllers)
	}
	for i, c := range p.Changes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, c)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// A tree is where a plan reads and writes the files of one group. A file "../x"
// is the parent group's, "a/x" the child a's, "/x" the hierarchy's top's.
type tree interface {
	version(ctl Controller) int // 1 or 2; 0 if there is no such controller
	read(ctl Controller, file string) (string, error)
	write(ctl Controller, file, data string) error
	path(ctl Controller, file string) string
	place(ctl Controller) string   // the group's path in the tree that has ctl, which relates it to others
	children(ctl Controller) bool  // whether there may be groups below this one
	below(ctl Controller) []string // their names, as far as they can be found out
	memoryTree
}

// group is a group of a plan.
type group struct {
	tree
	path string
	want *Resources
}

// planner collects changes. It reads the groups and writes nothing, so the same
// groups and resources give the same plan.
type planner struct {
	tree
	cgroup  string // the path of the group whose files tree has
	page    uint64 // the machine's page size
	several bool   // more than one group is changed
	cfg     UpdateConfig
	room    int // how many changes there may be
	changes []Change
}

// plan is pure but for reading the groups, which are in the order of their
// paths: a parent comes before its children.
func plan(page uint64, groups []group, cfg UpdateConfig) ([]Change, error) {
	return new(planner).plan(page, groups, cfg)
}

func (p *planner) plan(page uint64, groups []group, cfg UpdateConfig) ([]Change, error) {
	*p = planner{page: page, several: len(groups) > 1, cfg: cfg}
	for i := range groups {
		p.room += groups[i].want.count()
	}
	var errs []error
	for i := range groups {
		p.tree, p.cgroup = groups[i].tree, groups[i].path
		if err := p.group(groups[i].want); err != nil {
			errs = append(errs, fmt.Errorf("plan for cgroup %s: %w", p.cgroup, err))
		}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	p.order()
	return p.changes, nil
}

// group plans the knobs of one group. Controllers are independent of each other.
func (p *planner) group(r *Resources) error {
	return errors.Join(
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
	"io.prio.class":         "Linux 5.14",
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

// add completes a change and appends it. Without a canon, the file holds just
// the value.
func (p *planner) add(c Change) {
	c.Cgroup, c.in = p.cgroup, p.tree
	c.Path, c.place = p.path(c.Controller, c.File), p.place(c.Controller)
	if c.canon == nil {
		if c.want = c.New; c.New == emptyList {
			c.want = ""
		}
		if c.was == "" {
			c.was = c.Old
		}
	}
	if p.changes == nil {
		p.changes = make([]Change, 0, p.room)
	}
	p.changes = append(p.changes, c)
}

// simple adds the change of a file that reads back as it is written, unless it
// holds want already.
func (p *planner) simple(ctl Controller, knob, want string, s stage, why string) error {
	old, err := p.knob(ctl, knob, knob)
	if err != nil || old == want {
		return err
	}
	p.add(Change{Controller: ctl, Knob: knob, File: knob, Old: old, New: want, Why: why, stage: s})
	return nil
}
