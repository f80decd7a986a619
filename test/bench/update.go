// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/caisson-run/caisson/cgroups"
	"golang.org/x/sys/unix"
)

// knobs are the five knobs that the comparison changes.
type knobs struct {
	weight              uint16 // shares, on v1, by the libraries and the raw writes
	memory, pids, quota int64
	cpus                string
}

// alternate gives one of two sets of limits, then the other.
func alternate() func() knobs {
	sets := [2]knobs{{weight: 100, memory: 256 << 20, pids: 64, quota: 50000, cpus: "0"}}
	sets[1] = knobs{weight: 200, memory: 320 << 20, pids: 65, quota: 60000, cpus: "0-" + strconv.Itoa(runtime.NumCPU()-1)}
	n := 0
	return func() knobs {
		n ^= 1
		return sets[n]
	}
}

func (l knobs) resources() cgroups.Resources {
	set, _ := cgroups.ParseSet(l.cpus)
	return cgroups.Resources{
		CPU:    cgroups.CPU{Weight: cgroups.WeightOf(l.weight), Max: cgroups.CPUs(float64(l.quota) / 100000)},
		Memory: cgroups.Memory{Max: cgroups.Bytes(uint64(l.memory))},
		PIDs:   cgroups.PIDs{Max: cgroups.Count(uint64(l.pids))},
		CPUSet: cgroups.CPUSet{CPUs: set},
	}
}

// updateTable compares a change of five limits.
func updateTable(ctx context.Context, p *place, o options) (t *table, err error) {
	if runtime.NumCPU() < 2 {
		return nil, errors.New("the update of cpuset.cpus needs two CPUs")
	}
	s, done, err := p.subject(ctx, "update")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	g := s.Cgroup()
	if _, err := s.Update(ctx, alternate()().resources()); err != nil { // which also brings it under cpuset
		return nil, err
	}
	raw, err := openRaw(g)
	if err != nil {
		return nil, err
	}
	defer raw.close()
	writes, checked := alternate(), alternate()
	group, sandbox := alternate(), alternate()
	benches := []*bench{
		{name: "caisson, the group", do: func() error { return changed(g.Update(ctx, group().resources())) }},
		{name: "raw writes", do: func() error { return raw.write(writes()) }},
		{name: rowRawChecked, do: func() error { return raw.update(checked()) }},
		{name: "caisson, the sandbox", do: func() error { return changed(s.Update(ctx, sandbox().resources())) }},
		containerdUpdate(g, alternate()),
		opencontainersUpdate(g, alternate()),
	}
	if err := measure(ctx, o.choose(&benches), o.turns()); err != nil {
		return nil, err
	}
	t = &table{
		Name: "update", Title: "Change five limits: weight and quota of the CPU, memory, pids, CPUs", Columns: benchColumns, Rows: benchRows(benches),
		Notes: []string{
			"raw writes: one write each through held descriptors, neither compared before nor read back.",
			rowRawChecked + ": the same, each file read before and after.",
			"caisson: reads what holds, writes what differs, and reads it back.",
			"the sandbox: with two lines of its record besides.",
		},
	}
	for _, r := range t.Rows {
		switch {
		case r.Absent != "":
		case r.Name == t.Rows[0].Name:
			r.Bars = []bar{atMost("raw x", r.Values["raw x"], 3)}
		case r.Name == rowContainerd || r.Name == rowOpencontainers:
			r.Bars = []bar{atLeast("caisson x", r.Values["caisson x"], 4)}
		}
	}
	return t, nil
}

const rowRawChecked = "raw writes, with reads"

// changed makes an error of an update that had less to do than the others: each
// finds what the contestant before it left.
func changed(res cgroups.Result, err error) error {
	if err != nil {
		return err
	}
	for i := range res.Changes {
		if c := &res.Changes[i]; c.Now == c.Old {
			return fmt.Errorf("%s was not changed", c.Path)
		}
	}
	return nil
}

// rawKnobs are the files of the five limits, held open.
type rawKnobs struct {
	v2  bool
	fds []int
	buf []byte
}

func openRaw(g *cgroups.Cgroup) (*rawKnobs, error) {
	files := []struct{ controller, v1, v2 string }{
		{"cpu", "cpu.shares", "cpu.weight"},
		{"cpu", "cpu.cfs_quota_us", "cpu.max"},
		{"memory", "memory.limit_in_bytes", "memory.max"},
		{"pids", "pids.max", "pids.max"},
		{"cpuset", "cpuset.cpus", "cpuset.cpus"},
	}
	k := &rawKnobs{v2: g.Mode() == cgroups.Unified, buf: make([]byte, 4096)}
	for _, f := range files {
		path := filepath.Join("/sys/fs/cgroup", f.controller, g.Path(), f.v1)
		if k.v2 {
			path = filepath.Join("/sys/fs/cgroup", g.Path(), f.v2)
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			k.close()
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		k.fds = append(k.fds, fd)
	}
	return k, nil
}

func (k *rawKnobs) close() {
	for _, fd := range k.fds {
		_ = unix.Close(fd)
	}
}

// write writes the five limits.
func (k *rawKnobs) write(l knobs) error {
	for i, v := range [4]int64{int64(l.shares(k.v2)), l.quota, l.memory, l.pids} {
		if err := k.put(i, strconv.AppendInt(k.buf[:0], v, 10)); err != nil {
			return err
		}
	}
	return k.put(4, append(k.buf[:0], l.cpus...))
}

func (k *rawKnobs) put(i int, value []byte) error {
	for {
		if _, err := unix.Pwrite(k.fds[i], value, 0); err != unix.EINTR { // the runtime's own signals
			return err
		}
	}
}

// update reads, writes and reads the five limits, and looks at none.
func (k *rawKnobs) update(l knobs) error {
	if err := k.read(); err != nil {
		return err
	}
	if err := k.write(l); err != nil {
		return err
	}
	return k.read()
}

func (k *rawKnobs) read() error {
	for _, fd := range k.fds {
		if _, err := unix.Pread(fd, k.buf, 0); err != nil {
			return err
		}
	}
	return nil
}

// shares is the weight in the words of the version: v1's default is 1024.
func (l knobs) shares(v2 bool) uint64 {
	if v2 {
		return uint64(l.weight)
	}
	return uint64(l.weight) * 1024 / 100
}
