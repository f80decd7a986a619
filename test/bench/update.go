// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/caisson-run/caisson/cgroups"
	"golang.org/x/sys/unix"
)

// alternate gives one of two sets of limits, then the other.
func alternate() func() (memory, pids, quota int64) {
	n := int64(0)
	return func() (memory, pids, quota int64) {
		n ^= 1
		return (256 + n*64) << 20, 64 + n, 50000 + n*10000
	}
}

func resources(memory, pids, quota int64) cgroups.Resources {
	return cgroups.Resources{
		CPU:    cgroups.CPU{Max: cgroups.CPUs(float64(quota) / 100000)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(uint64(memory))},
		PIDs:   cgroups.PIDs{Max: cgroups.Count(uint64(pids))},
	}
}

// updateTable compares a change of three limits. It is a first look; what is
// asked of updates has its own measure.
func updateTable(ctx context.Context, p *place, o options) (t *table, err error) {
	s, done, err := p.subject(ctx, "update")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	g := s.Cgroup()
	write, closeRaw, err := rawWrites(g, alternate())
	if err != nil {
		return nil, err
	}
	defer closeRaw()
	group, sandbox := alternate(), alternate()
	benches := []*bench{
		{name: "caisson, the group", do: func() error { _, err := g.Update(ctx, resources(group())); return err }},
		{name: "raw writes", do: write},
		{name: "caisson, the sandbox", do: func() error { _, err := s.Update(ctx, resources(sandbox())); return err }},
		containerdUpdate(g, alternate()),
		opencontainersUpdate(g, alternate()),
	}
	if err := measure(ctx, benches, o.turns()); err != nil {
		return nil, err
	}
	return &table{
		Name: "update", Title: "Change the limits of cpu, memory and pids", Columns: benchColumns, Rows: benchRows(benches),
		Notes: []string{
			"raw writes: one write each through held descriptors, neither compared before nor read back.",
			"the sandbox: with two lines of its record besides.",
		},
	}, nil
}

// rawWrites is a function that writes the three limits.
func rawWrites(g *cgroups.Cgroup, next func() (memory, pids, quota int64)) (write func() error, done func(), err error) {
	names := [3][2]string{{"cpu", "cpu.cfs_quota_us"}, {"memory", "memory.limit_in_bytes"}, {"pids", "pids.max"}}
	if g.Mode() == cgroups.Unified {
		names = [3][2]string{{"", "cpu.max"}, {"", "memory.max"}, {"", "pids.max"}}
	}
	var fds [3]int
	n := 0
	done = func() {
		for _, fd := range fds[:n] {
			_ = unix.Close(fd)
		}
	}
	for i, name := range names {
		path := filepath.Join("/sys/fs/cgroup", name[0], g.Path(), name[1])
		if fds[i], err = unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
			done()
			return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		n++
	}
	var buf []byte
	return func() error {
		memory, pids, quota := next()
		for i, v := range [3]int64{quota, memory, pids} {
			buf = strconv.AppendInt(buf[:0], v, 10)
			_, err := unix.Write(fds[i], buf)
			for err == unix.EINTR { // the runtime's own signals
				_, err = unix.Write(fds[i], buf)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, done, nil
}
