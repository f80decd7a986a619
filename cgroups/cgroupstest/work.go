// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/cgroupfake"
)

// Usage is what the work of one group has in use, in bytes, without the groups
// below it.
type Usage struct {
	Anon   uint64 // only swapping frees it
	File   uint64 // page cache, which reclaim drops
	Kernel uint64 // nothing frees it
	Swap   uint64 // swapped out
	Huge   uint64 // huge pages of the first size
}

// SetUsage makes the work of the group at path use so many bytes of anonymous
// memory. Above a limit happens what a kernel does: page cache is dropped, memory
// is swapped out, and the OOM killer ends processes.
func (f *Fake) SetUsage(path string, bytes uint64) {
	f.help()
	f.SetMemory(path, Usage{Anon: bytes})
}

// SetMemory is [Fake.SetUsage] in detail.
func (f *Fake) SetMemory(path string, u Usage) {
	f.help()
	was := f.m.Usage(path)
	was.Anon, was.File, was.Kernel, was.Swap, was.Huge = u.Anon, u.File, u.Kernel, u.Swap, u.Huge
	f.must(f.m.SetUsage(path, was))
}

// Memory is what the work of the group at path has in use: what SetUsage said,
// less what was reclaimed or killed since.
func (f *Fake) Memory(path string) Usage {
	u := f.m.Usage(path)
	return Usage{Anon: u.Anon, File: u.File, Kernel: u.Kernel, Swap: u.Swap, Huge: u.Huge}
}

// AddCPU makes the group at path have used so much more CPU time, and have been
// held back by its quota for so much longer, in as many periods of 100 ms as that
// takes.
func (f *Fake) AddCPU(path string, used, throttled time.Duration) {
	f.help()
	u := f.m.Usage(path)
	u.CPUUsec += uint64(used.Microseconds())
	u.ThrottledUsec += uint64(throttled.Microseconds())
	u.Throttled += uint64((throttled + 99*time.Millisecond) / (100 * time.Millisecond))
	u.Periods += uint64((used + throttled + 99*time.Millisecond) / (100 * time.Millisecond))
	f.must(f.m.SetUsage(path, u))
}

// AddStall makes the work of the group at path, or with "" the machine, have
// stalled for so much more: some of it, and all of it at once. Averages stay 0.
func (f *Fake) AddStall(path string, r cgroups.PressureResource, some, full time.Duration) {
	f.help()
	f.must(f.m.AddStall(path, cgroupfake.Resource(r-cgroups.PressureCPU), cgroupfake.Stall{Some: some, Full: full}))
}

// Start starts a simulated process in the group at path and returns its number.
func (f *Fake) Start(path string) (pid int) {
	f.help()
	pid, err := f.TryStart(path)
	f.must(err)
	return pid
}

// TryStart is [Fake.Start] with the kernel's answer: EAGAIN where a pids.max is
// reached, EBUSY where only groups may be.
func (f *Fake) TryStart(path string) (pid int, err error) { return f.m.Start(path, "work") }

// Exit ends a process of its own accord.
func (f *Fake) Exit(pid int) {
	f.help()
	f.must(f.m.Exit(pid))
}

// Alive reports whether the process has not ended.
func (f *Fake) Alive(pid int) bool {
	_, state := f.m.Process(pid)
	return state != ""
}

// Stick puts a process into a wait that no signal ends and no freezer reaches
// (state D), or with false takes it out again; then a kill that waited for it
// is done.
func (f *Fake) Stick(pid int, stuck bool) {
	f.help()
	f.must(f.m.Stick(pid, stuck))
}
