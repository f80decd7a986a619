// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkCreateRemove makes and removes a group under cpu, memory and pids,
// and does the same with nothing but the system calls: mkdir, open, close and
// rmdir in each of the trees.
func BenchmarkCreateRemove(b *testing.B) {
	testutil.Require(b, testutil.Root)
	r := openRoot(b)
	want := ControllersOf(ControllerCPU, ControllerMemory, ControllerPIDs) & r.Controllers()
	parent := newGroup(b, r, want)
	create := func(i int) {
		c, err := r.Create(fmt.Sprintf("%s/%d", parent.Path(), i), want)
		require.NoError(b, err)
		require.NoError(b, c.Remove(b.Context()))
		require.NoError(b, c.Close())
	}
	create(-1)
	var parents []int
	for _, n := range parent.places() {
		parents = append(parents, n.dir.FD())
	}
	raw := func(i int) {
		name := fmt.Sprint(i)
		var fds [16]int
		for i, dir := range parents {
			require.NoError(b, unix.Mkdirat(dir, name, 0o755))
			fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			require.NoError(b, err)
			fds[i] = fd
		}
		for i, dir := range parents {
			require.NoError(b, unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
			require.NoError(b, unix.Close(fds[i]))
		}
	}
	// Alternately, so that what else the machine does falls on both.
	var ours, floor []time.Duration
	b.ReportAllocs()
	for i := range b.N {
		start := time.Now()
		create(i)
		middle := time.Now()
		raw(i)
		ours, floor = append(ours, middle.Sub(start)), append(floor, time.Since(middle))
	}
	slices.Sort(ours)
	slices.Sort(floor)
	b.ReportMetric(float64(floor[b.N/2]), "raw-ns/op")
	b.ReportMetric(float64(ours[b.N/2])/float64(floor[b.N/2]), "median-ratio")
	b.ReportMetric(float64(ours[b.N/20])/float64(floor[b.N/20]), "p5-ratio")
}

// BenchmarkJoin is what a start costs besides: opening the tasks files.
func BenchmarkJoin(b *testing.B) {
	testutil.Require(b, testutil.Root)
	r := openRoot(b)
	c := newGroup(b, r, ControllersOf(ControllerCPU, ControllerMemory, ControllerPIDs)&r.Controllers())
	b.ReportAllocs()
	for range b.N {
		_, err := c.Join()
		require.NoError(b, err)
		require.NoError(b, c.CloseJoin())
	}
}

// BenchmarkKill ends nobody: what it costs when the processes have gone by
// themselves.
func BenchmarkKill(b *testing.B) {
	testutil.Require(b, testutil.Root)
	r := openRoot(b)
	c := newGroup(b, r, ControllersOf(ControllerCPU, ControllerMemory, ControllerPIDs)&r.Controllers())
	b.ReportAllocs()
	for range b.N {
		require.NoError(b, c.Kill(b.Context()))
	}
}

// BenchmarkHeld is what 500 values of groups take of the process while nothing
// is done with them.
func BenchmarkHeld(b *testing.B) {
	testutil.Require(b, testutil.Root)
	r := openRoot(b)
	c := newGroup(b, r, 0)
	const many = 500
	held := make([]*Cgroup, many)
	var bytes, fds uint64
	for range b.N {
		heap, files := use(b)
		for i := range held {
			var err error
			held[i], err = r.Open(c.Path())
			require.NoError(b, err)
		}
		moreHeap, moreFiles := use(b)
		bytes += moreHeap - heap
		fds += moreFiles - files
		for _, o := range held {
			require.NoError(b, o.Close())
		}
		clear(held)
	}
	b.ReportMetric(float64(bytes)/float64(b.N)/many, "heap-bytes/group")
	b.ReportMetric(float64(fds)/float64(b.N)/many, "fds/group")
}

// use is the heap in use and the number of descriptors.
func use(b *testing.B) (heap, fds uint64) {
	b.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(b, err)
	return m.HeapAlloc, uint64(len(list))
}
