// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"slices"
	"strings"
	"sync"

	"github.com/caisson-run/caisson/internal/cgroupfake"
)

// faults are what the test has injected, in order.
type faults struct {
	mu  sync.Mutex
	all []*Fault
}

// A Fault is something that goes wrong with operations on a file. Where several
// match, the first decides; those that have struck as often as they may let
// operations pass to the next.
type Fault struct {
	of      *faults
	kind    cgroupfake.OpKind
	group   string // "" with any: any group
	file    string // "*" is any
	any     bool
	at      []int
	out     cgroupfake.Outcome
	seen    int
	struck  int
	reached chan struct{}
	once    sync.Once
	open    chan struct{}
}

// add injects a fault. name is a file, "cpu.max", in any group, or a path that
// ends with it, "agent/web/cpu.max"; "*" is any file.
func (f *Fake) add(kind cgroupfake.OpKind, name string, out cgroupfake.Outcome) *Fault {
	fault := &Fault{of: &f.faults, kind: kind, file: name, any: true, out: out}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		fault.group, fault.file, fault.any = name[:i], name[i+1:], false
	}
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	f.faults.all = append(f.faults.all, fault)
	return fault
}

// Fail makes writes to a file fail with err, such as [syscall.EIO], without
// effect: the file called name in any group ("cpu.max"), in one group
// ("agent/web/cpu.max"), or any file ("*").
func (f *Fake) Fail(name string, err error) *Fault {
	return f.add(cgroupfake.Write, name, cgroupfake.Outcome{Err: err})
}

// FailRead makes reads fail, with names as in [Fake.Fail].
func (f *Fake) FailRead(name string, err error) *Fault {
	return f.add(cgroupfake.Read, name, cgroupfake.Outcome{Err: err})
}

// FailOpen makes opening files and groups fail, with names as in [Fake.Fail] and
// [Fake.FailMkdir].
func (f *Fake) FailOpen(name string, err error) *Fault {
	return f.add(cgroupfake.Open, name, cgroupfake.Outcome{Err: err})
}

// FailMkdir makes the making of groups fail. The name is the group's, its path,
// or "*".
func (f *Fake) FailMkdir(name string, err error) *Fault {
	return f.add(cgroupfake.Mkdir, name, cgroupfake.Outcome{Err: err})
}

// FailRmdir makes the removal of groups fail, with names as in
// [Fake.FailMkdir].
func (f *Fake) FailRmdir(name string, err error) *Fault {
	return f.add(cgroupfake.Rmdir, name, cgroupfake.Outcome{Err: err})
}

// Short makes writes to a file take only the first n bytes, with names as in
// [Fake.Fail].
func (f *Fake) Short(name string, n int) *Fault {
	return f.add(cgroupfake.Write, name, cgroupfake.Outcome{Short: n})
}

// Block makes writes to a file block until [Fault.Release], as those of
// memory.max do while the kernel reclaims; then they are done. Names are as in
// [Fake.Fail].
func (f *Fake) Block(name string) *Fault {
	open := make(chan struct{})
	fault := f.add(cgroupfake.Write, name, cgroupfake.Outcome{Block: open})
	fault.open, fault.reached = open, make(chan struct{})
	if f.t != nil {
		f.t.Cleanup(fault.Release) // nobody stays behind
	}
	return fault
}

// At restricts the fault to the nth operations that match it, from 1.
func (x *Fault) At(n ...int) *Fault {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.at = n
	return x
}

// TakesEffect makes the operations work although they fail, as with a write
// whose answer is lost.
func (x *Fault) TakesEffect() *Fault {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.out.Effect = true
	return x
}

// Struck is how many operations it has struck.
func (x *Fault) Struck() int {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	return x.struck
}

// Lift ends the fault. Writes that it blocks go on blocking.
func (x *Fault) Lift() {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.of.all = slices.DeleteFunc(x.of.all, func(y *Fault) bool { return y == x })
}

// Reached is closed when the first write blocks; nil for other faults.
func (x *Fault) Reached() <-chan struct{} { return x.reached }

// Release ends a [Fake.Block]: writes that block go on, later ones do not block.
// Releasing twice does nothing.
func (x *Fault) Release() {
	x.Lift()
	if x.open != nil {
		x.once.Do(func() { close(x.open) })
	}
}

// matches counts the operation if the fault is about it, and reports whether it
// strikes.
func (x *Fault) matches(op cgroupfake.Op) bool {
	if x.kind != op.Kind || x.file != "*" && x.file != op.File || !x.any && x.group != op.Group {
		return false
	}
	x.seen++
	if len(x.at) > 0 && !slices.Contains(x.at, x.seen) {
		return false
	}
	x.struck++
	return true
}

// decide is the machine's hook.
func (f *faults) decide(op cgroupfake.Op) cgroupfake.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.all {
		if x.matches(op) {
			if x.reached != nil && x.struck == 1 {
				close(x.reached)
			}
			return x.out
		}
	}
	return cgroupfake.Outcome{}
}
