// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"strconv"
	"strings"
)

// An Explanation says what a group really gets: for each resource the limit that
// counts, and whose it is. A group that is given more than one above it has is
// held to that one's limit without a word from the kernel.
type Explanation struct {
	Cgroup string  `json:"cgroup"`
	Bounds []Bound `json:"bounds"`

	// Shares is how CPU time is divided under contention, from the group
	// upwards; none without the cpu controller, or in an idle group.
	Shares []Share `json:"shares,omitempty"`

	// Unseen are the tops of those trees that begin somewhere inside the
	// machine's real tree, as in a container: what is set above them counts,
	// and cannot be read.
	Unseen []string `json:"unseen,omitempty"`
}

// Of is the bound of a knob, "memory.max", if there is one.
func (e Explanation) Of(knob string) (b Bound, ok bool) {
	for _, b := range e.Bounds {
		if b.Knob == knob {
			return b, true
		}
	}
	return Bound{}, false
}

// String is the explanation in lines.
func (e Explanation) String() string {
	var b strings.Builder
	for _, bound := range e.Bounds {
		fmt.Fprintln(&b, bound)
	}
	if len(e.Shares) > 0 {
		part := 1.0
		for _, s := range e.Shares {
			part *= float64(s.Weight) / float64(s.Sum)
		}
		fmt.Fprintf(&b, "cpu.weight: %.1f%% of CPU time if everybody wants some\n", 100*part)
	}
	for _, top := range e.Unseen {
		fmt.Fprintf(&b, "what is set above %s counts too, and is not visible from here\n", top)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// A Unit is what the numbers of a [Bound] count.
type Unit string

// The units.
const (
	UnitBytes     Unit = "bytes"
	UnitByteRate  Unit = "bytes/s"
	UnitOpRate    Unit = "operations/s"
	UnitProcesses Unit = "processes"
	UnitMicroCPUs Unit = "µCPUs" // microseconds of CPU time in each second
	UnitCPUs      Unit = "CPUs"
	UnitNodes     Unit = "memory nodes"
)

// A Bound is what limits one resource of a group.
type Bound struct {
	// Knob is in v2's words, "memory.max", "io.max 8:0 rbps". On v1, which
	// has no limit of swap alone, "memory+swap" is one besides.
	Knob string `json:"knob"`
	Unit Unit   `json:"unit"`

	// Asked is what the group's own file has; unset if it has none, since the
	// group is not under the controller, or names nothing, as an empty cpuset.
	Asked Limit `json:"asked,omitzero"`

	// Limit is what counts, and By where it is set. Max, and no place, if
	// nothing limits the group.
	Limit Limit `json:"limit"`
	By    Level `json:"by,omitzero"`

	// Levels are all places that were looked at: the group, those above it,
	// and the machine, in this order.
	Levels []Level `json:"levels"`
}

// A Level is one place where a resource may be limited.
type Level struct {
	Group string `json:"group,omitempty"` // the path of a group, "/" for the top of its tree; empty for the machine
	Path  string `json:"path"`            // the file
	Text  string `json:"text"`            // what it holds
	Limit Limit  `json:"limit"`           // the same in the bound's unit
}

// String names the place.
func (l Level) String() string {
	if l.Group == "" {
		return "the machine, " + l.Path
	}
	return "group " + l.Group + ", " + l.Path
}

// Excess is how much more was asked for than the group gets; 0 if nothing.
func (b Bound) Excess() uint64 {
	asked, ok1 := b.Asked.Value()
	limit, ok2 := b.Limit.Value()
	if !ok1 || !ok2 {
		return 0
	}
	return asked - min(asked, limit)
}

// String reads `memory.max: 33554432 bytes by group agent, /sys/...; 67108864
// asked for, 33554432 too many`.
func (b Bound) String() string {
	n, ok := b.Limit.Value()
	if !ok {
		return b.Knob + ": no limit"
	}
	s := b.Knob + ": " + b.Unit.amount(n) + " " + string(b.Unit.noun()) + " by " + b.By.String()
	if excess := b.Excess(); excess > 0 {
		asked, _ := b.Asked.Value()
		s += "; " + b.Unit.amount(asked) + " asked for, " + b.Unit.amount(excess) + " too many"
	}
	return s
}

// amount writes CPU time as a number of CPUs.
func (u Unit) amount(n uint64) string {
	if u != UnitMicroCPUs {
		return strconv.FormatUint(n, 10)
	}
	return strconv.FormatFloat(float64(n)/1e6, 'f', -1, 64)
}

func (u Unit) noun() Unit {
	if u == UnitMicroCPUs {
		return UnitCPUs
	}
	return u
}

// A Share is a group's part of its parent's CPU time while everybody in the
// parent wants some.
type Share struct {
	Group  string `json:"group"`
	Weight uint64 `json:"weight"` // cpu.weight, or cpu.shares on v1
	Sum    uint64 `json:"sum"`    // of the parent's groups, this one included
}

// Explain finds out what limits the group, in each tree that it is in. It reads
// many files and writes none. A group that is not under a controller is limited
// by the nearest one above it that is; on v1 by the one that its processes are
// in, or, without any, the caller.
//
// A limit is that of a moment; of several that are equally low the nearest to
// the group is named, and of sets of CPUs the highest.
//
// It returns an error that matches [ErrGone] if the group was removed.
func (c *Cgroup) Explain() (Explanation, error) {
	if n := c.main(); n.gone() {
		return Explanation{}, fmt.Errorf("explain cgroup %s: %w", c.path, ErrGone)
	}
	e := &explainer{c: c, to: Explanation{Cgroup: c.path}}
	for _, step := range []func() error{e.memory, e.cpu, e.cpuset, e.pids, e.io, e.hugetlb} {
		if err := step(); err != nil {
			return Explanation{}, fmt.Errorf("explain cgroup %s: %w", c.path, err)
		}
	}
	return e.to, nil
}

// explainer is an explanation being made.
type explainer struct {
	c  *Cgroup
	to Explanation
}

// amountAt reads a limit on a rung; ok is false if there is none to read.
type amountAt func(r rung) (l Level, ok bool, err error)

// bound walks the ladder of ctl. above are the machine's limits.
func (e *explainer) bound(ctl Controller, knob string, unit Unit, read amountAt, above ...Level) error {
	rungs, err := e.ladder(ctl)
	if err != nil || rungs == nil {
		return err
	}
	b := Bound{Knob: knob, Unit: unit, Limit: Max()}
	for _, r := range rungs {
		l, ok, err := read(r)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if r.own != nil {
			b.Asked = l.Limit
		}
		b.Levels = append(b.Levels, l)
	}
	if len(b.Levels) == 0 {
		return nil // the kernel has no such limit
	}
	b.Levels = append(b.Levels, above...)
	for _, l := range b.Levels {
		if n, ok := l.Limit.Value(); ok && n < b.Limit.amountOr(noLimit) {
			b.Limit, b.By = l.Limit, l
		}
	}
	e.to.Bounds = append(e.to.Bounds, b)
	return nil
}

// amountOr is the number, or other if there is none.
func (l Limit) amountOr(other uint64) uint64 {
	if l.is != set {
		return other
	}
	return l.n
}

// single reads a file that holds one amount.
func single(v1, v2 string) amountAt {
	return func(r rung) (Level, bool, error) {
		file := v2
		if !r.in.v2 {
			file = v1
		}
		text, ok, err := r.read(file)
		if err != nil || !ok {
			return Level{}, false, err
		}
		n, err := parseAmount(text)
		return r.level(file, text, limitOf(n)), err == nil, err
	}
}
