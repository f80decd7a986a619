// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"os"
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

// Many groups are held at once.
func BenchmarkHeld(b *testing.B) {
	testutil.Require(b, testutil.Root)
	r := openRoot(b)
	c := newGroup(b, r, 0)
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		require.NoError(b, err)
		return len(list)
	}
	before := fds()
	held := make([]*Cgroup, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for range min(b.N, 500) {
		o, err := r.Open(c.Path())
		require.NoError(b, err)
		held = append(held, o)
	}
	b.StopTimer()
	b.ReportMetric(float64(fds()-before)/float64(len(held)), "fds/group")
	for _, o := range held {
		require.NoError(b, o.Close())
	}
}
