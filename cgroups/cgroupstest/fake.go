// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"fmt"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/cgroupfake"
)

// Layout is how the hierarchies of a fake are mounted.
type Layout = cgroupfake.Layout

// The layouts.
const (
	V2     = cgroupfake.V2     // one cgroup2 tree with all controllers
	V1     = cgroupfake.V1     // each v1 controller in its own tree, and a detached cgroup2 tree
	Hybrid = cgroupfake.Hybrid // the same, with the cgroup2 tree mounted
)

// Release is a kernel release. Files and rules newer than it are not there; the
// oldest that the fake knows is 5.10.
type Release = cgroupfake.Release

// Machine is what a fake machine is like. Zero fields have defaults.
type Machine struct {
	Kernel     Release           // 6.12
	CPUs, Mems int               // 8 CPUs and one memory node
	Swap       uint64            // bytes of swap space; none
	Disks      []string          // "8:0" and "8:16"
	HugePages  []uint64          // sizes in bytes; 2 MiB
	Misc       map[string]uint64 // capacities of the misc controller; none
	RDMA       []string          // RDMA devices; none
	IOCost     bool              // io.cost is enabled on the disks

	// Without names files and controllers that this kernel lacks:
	// "memory.reclaim", "hugetlb".
	Without []string

	// NoUnified is a V1 machine where no cgroup2 tree can be mounted either, as
	// without CAP_SYS_ADMIN.
	NoUnified bool

	// Privileged is with CAP_SYS_RESOURCE, which pressure triggers need for
	// windows other than multiples of two seconds.
	Privileged bool
}

// Fake is a cgroupfs in memory. It is safe for concurrent use.
type Fake struct {
	t      testing.TB
	m      *cgroupfake.Machine
	root   *cgroups.Root
	faults faults
}

// New makes a fake of the default machine. It ends with the test.
//
// t may be nil outside of tests. Misuse of the fake, such as naming a group that
// is not there, then panics instead of ending the test.
func New(t testing.TB, layout Layout) *Fake { return NewOn(t, layout, Machine{}) }

// NewOn is [New] for another machine.
func NewOn(t testing.TB, layout Layout, on Machine) *Fake {
	if t != nil {
		t.Helper()
	}
	f := &Fake{t: t}
	if layout < V2 || layout > Hybrid {
		f.must(fmt.Errorf("no layout %d", layout))
	}
	f.m = cgroupfake.New(cgroupfake.Config{
		Layout: layout, Kernel: on.Kernel, CPUs: on.CPUs, Mems: on.Mems, Swap: on.Swap, Disks: on.Disks,
		HugePages: on.HugePages, Misc: on.Misc, RDMA: on.RDMA, Without: on.Without, NoUnified: on.NoUnified,
		CostEnabled: on.IOCost, Privileged: on.Privileged,
	})
	f.m.Hook(f.faults.decide)
	var err error
	f.root, err = cgroups.OpenFake(f.m)
	f.must(err)
	if t != nil {
		t.Cleanup(func() { f.must(f.root.Close()) })
	}
	return f
}

// Parse makes a fake of the default machine with what a tree literal says, as
// [Fake.Load] does.
func Parse(t testing.TB, layout Layout, literal string) *Fake {
	if t != nil {
		t.Helper()
	}
	f := New(t, layout)
	f.Load(literal)
	return f
}

// Root is the fake's root, as [cgroups.Open] gives a real one: everything works
// on it but [cgroups.Cgroup.Join] and what needs a directory's descriptor. It is
// closed with the test.
func (f *Fake) Root() *cgroups.Root { return f.root }

// must ends the test if err is not nil.
func (f *Fake) must(err error) {
	if err == nil {
		return
	}
	if f.t == nil {
		panic("cgroupstest: " + err.Error())
	}
	f.t.Helper()
	f.t.Fatalf("cgroupstest: %v", err)
}

// Tree is all groups as text: a line for each, and below it, after a tab, what
// it has that a new group has not. Groups of one path in several hierarchies
// are one. Two fakes with the same Tree have the same groups with the same
// limits, processes and memory in use.
//
//	agent
//		cgroup.subtree_control: cpu memory
//	agent/web
//		cpu.max: 50000 100000
//		io.max: 8:0 rbps=1048576 wbps=max riops=max wiops=max | 8:16 rbps=max wbps=max riops=100 wiops=max
//		usage: anon 1048576, file 4096
//		processes: 4194305 4194306
func (f *Fake) Tree() string { return f.m.Tree() }

// Load makes the groups of a tree literal in the form of [Fake.Tree], and gives
// their files what it says without asking the kernel's rules; "processes: 3"
// starts three. Lines that begin with # are comments, and on v2 the controllers
// of files are enabled above them.
func (f *Fake) Load(literal string) {
	f.help()
	f.must(f.m.Load(literal))
}

func (f *Fake) help() {
	if f.t != nil {
		f.t.Helper()
	}
}

// Read is what a file of the group at path holds, such as "cpu.max" of
// "agent/web". No fault strikes it.
func (f *Fake) Read(path, file string) string {
	f.help()
	text, err := f.m.Read(path, file)
	f.must(err)
	return text
}

// Write writes to a file as somebody else on the machine would: by the kernel's
// rules, but no fault strikes it and [Fake.Writes] does not have it. The error is
// the kernel's.
func (f *Fake) Write(path, file, data string) error { return f.m.Write(path, file, data) }

// Mkdir makes the group at path in every tree, as somebody else would.
func (f *Fake) Mkdir(path string) error { return f.m.Mkdir(path) }

// Rmdir removes the group at path from every tree, as somebody else would. What
// is held of it then answers that it is gone.
func (f *Fake) Rmdir(path string) error { return f.m.Rmdir(path) }

// Writes are the writes through the Root since the last call, in order, each as
// "agent/web/cpu.max=50000 100000"; of more than 65536 the first.
func (f *Fake) Writes() []string {
	var all []string
	for _, w := range f.m.Writes() {
		all = append(all, join(w.Group, w.File)+"="+w.Data)
	}
	return all
}

// Save returns what brings the machine back to what it is now. Groups that were
// made meanwhile are gone then; those that were removed do not come back.
func (f *Fake) Save() (restore func()) { return f.m.Save() }

func join(group, file string) string {
	if group == "" {
		return file
	}
	return group + "/" + file
}
