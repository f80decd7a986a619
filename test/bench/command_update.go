// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/test/foreign"
)

// change is one update of the five knobs that every contestant has: weight and
// quota of CPU, memory, processes and CPUs.
type change func() error

// commandUpdateTable compares the change of five limits of running containers
// of other people's runtimes: each with its own command, and Caisson on the
// containers that it has adopted.
func commandUpdateTable(ctx context.Context, p *place, o options) (t *table, err error) {
	f := &foreignUpdates{p: p, name: p.name + "-foreign"}
	defer func() { err = errors.Join(err, f.close()) }()
	host, err := isolation.Open(ctx, isolation.Config{Root: filepath.Join(p.state, "foreign"), Parent: p.name + "-agent"})
	if err != nil {
		return nil, err
	}
	f.undo(func() error { return errors.Join(host.Remove(context.WithoutCancel(ctx)), host.Close()) })
	f.host = host
	f.docker(ctx)
	f.oci(ctx, "runc")
	f.oci(ctx, "crun")
	rounds := 30
	if o.quick {
		rounds = 2
	}
	if err := f.measure(ctx, min(rounds, o.rounds)); err != nil {
		return nil, err
	}
	return &table{
		Name: "foreign", Title: "Change five limits of a running container: cpu weight and max, memory, pids, cpuset",
		Columns: []string{"median", "p95", "min", "caisson x"}, Rows: f.rows(),
		Notes: []string{
			"caisson on docker: Update of the adopted sandbox, in the agent that runs anyway, its record on disk included.",
			"docker update and the like: the command as people run it, a process a change.",
			"crun update: where it refuses the machine's unified tree, the making of a mount namespace without it is part of the time.",
		},
	}, nil
}

// foreignUpdates are the contestants, in pairs: Caisson and the runtime's own
// command, on one container.
type foreignUpdates struct {
	p       *place
	name    string // group of the containers
	host    *isolation.Host
	list    []*updater
	cleanup []func() error
}

type updater struct {
	name   string
	rival  string // whose rows Caisson's is the measure of; empty for Caisson
	do     change
	absent error
	times  []time.Duration
}

func (f *foreignUpdates) undo(do func() error) { f.cleanup = append(f.cleanup, do) }

func (f *foreignUpdates) close() error {
	var errs []error
	for i := len(f.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, f.cleanup[i]())
	}
	return errors.Join(append(errs, foreign.RemoveGroups(f.name))...)
}

// add puts both contestants on the container of pid in.
func (f *foreignUpdates) add(ctx context.Context, runtime string, pid int, command func(flags ...string) []string, flags func(memory, pids, quota int64) []string, err error) {
	ours, theirs := &updater{name: "caisson on " + runtime}, &updater{name: runtime + " update", rival: "caisson on " + runtime}
	f.list = append(f.list, ours, theirs)
	var s *isolation.Sandbox
	if err == nil {
		s, err = f.host.Adopt(ctx, runtime, isolation.PID(pid))
	}
	if err != nil {
		ours.absent, theirs.absent = err, err
		return
	}
	f.undo(func() error { return s.Release(context.WithoutCancel(ctx), isolation.KeepLimits) })
	next := alternate() // one for both, so that each change is one
	ours.do = func() error {
		l := next()
		r := l.resources()
		r.CPU.Weight = cgroups.WeightOf(uint16(50 + l.pids%2))
		r.CPUSet.CPUs = cgroups.SetOf(int(l.pids % 2))
		_, err := s.Update(ctx, r)
		return err
	}
	theirs.do = func() error {
		l := next()
		args := command(flags(l.memory, l.pids, l.quota)...)
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
}

func (f *foreignUpdates) docker(ctx context.Context) {
	var d *foreign.Docker
	pid, err := 0, missing("dockerd", "docker", "containerd", "runc", "busybox")
	if err == nil {
		var dir string
		if dir, err = os.MkdirTemp("", "caisson-docker-"); err == nil { // a short path: a socket is in it
			d, err = foreign.StartDocker(dir, f.name, func(string) error { return nil })
		}
	}
	if err == nil {
		f.undo(d.Close)
		pid, err = d.Run("box")
	}
	f.add(ctx, "docker", pid, func(flags ...string) []string {
		return append(d.Command("update"), append(flags, "box")...)
	}, func(memory, pids, quota int64) []string {
		return []string{
			"--cpu-shares", strconv.FormatInt(500+pids%2, 10), "--cpu-period=100000", "--cpu-quota", strconv.FormatInt(quota, 10),
			"--memory", strconv.FormatInt(memory, 10), "--memory-swap", "-1",
			"--pids-limit", strconv.FormatInt(pids, 10), "--cpuset-cpus", strconv.FormatInt(pids%2, 10),
		}
	}, err)
}

func (f *foreignUpdates) oci(ctx context.Context, runtime string) {
	c, err := &foreign.OCI{}, missing(runtime, "busybox")
	if err == nil {
		dir := filepath.Join(f.p.dir, "foreign-"+runtime)
		if err = os.Mkdir(dir, 0o755); err == nil {
			c, err = foreign.StartOCI(runtime, dir, "/"+f.name+"/"+runtime)
		}
	}
	if err == nil {
		f.undo(c.Close)
	} else {
		c = &foreign.OCI{}
	}
	f.add(ctx, runtime, c.PID, c.UpdateCommand, func(memory, pids, quota int64) []string {
		return []string{
			"--cpu-share", strconv.FormatInt(500+pids%2, 10), "--cpu-period", "100000", "--cpu-quota", strconv.FormatInt(quota, 10),
			"--memory", strconv.FormatInt(memory, 10),
			"--pids-limit", strconv.FormatInt(pids, 10), "--cpuset-cpus", strconv.FormatInt(pids%2, 10),
		}
	}, err)
}

// missing is the first of the programs that is not installed.
func missing(programs ...string) error {
	for _, name := range programs {
		if _, err := installed(name); err != nil {
			return err
		}
	}
	return nil
}

// measure runs all in turns.
func (f *foreignUpdates) measure(ctx context.Context, rounds int) error {
	order := append([]*updater(nil), f.list...)
	for round := range rounds + 1 {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, u := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			if u.absent != nil {
				continue
			}
			begin := time.Now()
			u.absent = u.do()
			if took := time.Since(begin); round > 0 && u.absent == nil { // the first one warms
				u.times = append(u.times, took)
			}
		}
	}
	return nil
}

func (f *foreignUpdates) rows() []*row {
	medians := make(map[string]float64)
	for _, u := range f.list {
		medians[u.name] = float64(median(u.times))
	}
	var rows []*row
	for _, u := range f.list {
		r := &row{Name: u.name}
		rows = append(rows, r)
		if u.absent != nil {
			r.Absent = u.absent.Error()
			continue
		}
		r.Values = spread(u.times)
		if own := medians[u.rival]; own > 0 {
			x := medians[u.name] / own
			r.Values["caisson x"] = x
			r.Bars = []bar{atLeast("caisson x", x, 4)}
		}
	}
	return rows
}
