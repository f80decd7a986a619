// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"golang.org/x/sys/unix"
)

// bench is one contestant of a table of in-process operations.
type bench struct {
	name string
	do   func() error // nil: see absent
	err  error        // why it does not take part
	ns   []int64
	last testing.BenchmarkResult
}

// choose leaves those benches that were asked for; the first two, which the others
// are compared with, always take part.
func (o options) choose(benches *[]*bench) []*bench {
	rest := slices.DeleteFunc((*benches)[2:], func(b *bench) bool { return !o.wants(b.name) })
	*benches = append((*benches)[:2], rest...)
	return *benches
}

// measure runs the benches in turns, each for a moment.
func measure(ctx context.Context, benches []*bench, turns int) error {
	testing.Init()
	if err := flag.Set("test.benchtime", "100ms"); err != nil {
		return err
	}
	for _, b := range benches {
		if b.err == nil {
			b.err = b.do() // warm, and whether it works at all
		}
	}
	order := append([]*bench(nil), benches...)
	for range turns {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, b := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			if b.err != nil {
				continue
			}
			b.last = testing.Benchmark(func(tb *testing.B) {
				tb.ReportAllocs()
				for tb.Loop() {
					if err := b.do(); err != nil {
						b.err = err
						tb.FailNow()
					}
				}
			})
			if b.err == nil {
				b.ns = append(b.ns, b.last.NsPerOp())
			}
		}
	}
	return nil
}

func benchRows(benches []*bench) []*row {
	own, raw := median(benches[0].ns), median(benches[1].ns)
	var rows []*row
	for _, b := range benches {
		r := &row{Name: b.name}
		rows = append(rows, r)
		if b.err != nil {
			r.Absent = b.err.Error()
			continue
		}
		ns := float64(median(b.ns))
		r.Values = map[string]float64{
			"median": ns, "min": float64(quantile(b.ns, 0)),
			"(B/op)": float64(b.last.AllocedBytesPerOp()), "(allocs/op)": float64(b.last.AllocsPerOp()),
			"raw x": ns / float64(max(1, raw)), "caisson x": ns / float64(max(1, own)),
		}
	}
	return rows
}

var benchColumns = []string{"median", "min", "(B/op)", "(allocs/op)", "raw x", "caisson x"}

func (o options) turns() int {
	if o.quick {
		return 1
	}
	return 15
}

// subject is a sandbox with a process in it, under the controllers that have
// figures.
func (p *place) subject(ctx context.Context, key string) (s *isolation.Sandbox, done func() error, err error) {
	host, err := isolation.Open(ctx, isolation.Config{Root: filepath.Join(p.state, key), Parent: p.name + "-" + key})
	if err != nil {
		return nil, nil, err
	}
	done = func() error {
		return errors.Join(host.Destroy(context.WithoutCancel(ctx), key), host.Remove(context.WithoutCancel(ctx)), host.Close())
	}
	s, err = host.Create(ctx, idle(key))
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return s, done, nil
}

// idle is the spec of a sandbox whose process sleeps.
func idle(id string) isolation.Spec {
	spec := sandboxSpec(id, false, false)
	spec.Process.Args = []string{"/bin/sleep", "1000000"}
	spec.Namespaces = isolation.Namespaces{}
	spec.Controllers |= cgroups.ControllersOf(cgroups.ControllerCPUAcct, cgroups.ControllerIO)
	return spec
}

// statTable compares what one measurement costs.
func statTable(ctx context.Context, p *place, o options) (t *table, err error) {
	s, done, err := p.subject(ctx, "stat")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	var st cgroups.Stats
	files, err := opened(p.name, func() error { return s.Stat(&st) })
	if err != nil {
		return nil, err
	}
	raw, closeRaw, err := preads(files)
	if err != nil {
		return nil, err
	}
	defer closeRaw()
	benches := []*bench{
		{name: "caisson", do: func() error { return s.Stat(&st) }},
		{name: "raw preads", do: raw},
		containerdStat(s.Cgroup()),
		opencontainersStat(s.Cgroup()),
	}
	if err := measure(ctx, o.choose(&benches), o.turns()); err != nil {
		return nil, err
	}
	t = &table{
		Name: "stat", Title: "Measure one sandbox: cpu, memory, io, pids and the three pressures", Columns: benchColumns,
		Rows: benchRows(benches),
		Notes: []string{
			fmt.Sprintf("raw preads: the same %d files through held descriptors, and nothing made of what they say.", len(files)),
			"The two libraries read no pressure on cgroup v1.",
		},
	}
	own := t.Rows[0]
	own.Bars = []bar{atMost("allocs", own.Values["(allocs/op)"], 0), atMost("raw x", own.Values["raw x"], 1.3)}
	for _, r := range t.Rows[2:] {
		if r.Absent == "" {
			r.Bars = []bar{atLeast("caisson x", r.Values["caisson x"], 12)}
		}
	}
	return t, nil
}

// opened are the files below groups of this name that do opens and keeps open.
func opened(name string, do func() error) ([]string, error) {
	list := func() (map[string]bool, error) {
		entries, err := os.ReadDir("/proc/self/fd")
		files := make(map[string]bool)
		for _, e := range entries {
			to, err := os.Readlink("/proc/self/fd/" + e.Name())
			if err == nil && strings.Contains(to, "/"+name) {
				files[to] = true
			}
		}
		return files, err
	}
	before, err := list()
	if err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	after, err := list()
	var files []string
	for f := range after {
		if !before[f] {
			files = append(files, f)
		}
	}
	return files, err
}

// preads is a function that reads each file once.
func preads(paths []string) (read func() error, done func(), err error) {
	var fds []int
	done = func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done()
			return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		fds = append(fds, fd)
	}
	buf := make([]byte, 64<<10)
	return func() error {
		for _, fd := range fds {
			if _, err := unix.Pread(fd, buf, 0); err != nil {
				return err
			}
		}
		return nil
	}, done, nil
}
