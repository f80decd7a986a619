// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/seccomp"
	"github.com/caisson-run/caisson/isolation"
)

// The rows of whole containers that bars are about, besides those of the first
// table.
const rowFloorContainer = "C program"

// containerTable compares whole containers: a root that is an overlay, a user
// namespace, capabilities, a filter of system calls, what else belongs to it.
func containerTable(ctx context.Context, p *place, o options) (*table, error) {
	t, err := p.wholeTable(ctx, o, false)
	if err != nil {
		return nil, err
	}
	t.Name, t.Title = "container", fmt.Sprintf(
		"Create, start, wait and destroy /bin/true in a whole container: overlay, 7 namespaces, capabilities, seccomp; %d rounds", o.rounds)
	t.Notes = append(t.Notes,
		"Everybody has an overlay with its upper layer in memory, /proc, /sys, /dev with six devices, pts, shm and mqueue, the same paths hidden",
		"and guarded, and the same list of system calls. crun, runc and libcontainer are given a mounted overlay, which is in their time, and",
		"have all controllers and rules for devices. The C program makes the calls that Caisson makes in the kernel, and keeps no record.")
	return t, nil
}

// execTable compares a further process in a running container of that kind.
func execTable(ctx context.Context, p *place, o options) (*table, error) {
	t, err := p.wholeTable(ctx, o, true)
	if err != nil {
		return nil, err
	}
	t.Name, t.Title = "exec", fmt.Sprintf("Run /bin/true in a running container of that kind, and wait for it; %d rounds", o.rounds)
	return t, nil
}

func (p *place) wholeTable(ctx context.Context, o options, further bool) (t *table, err error) {
	list, err := p.wholeContestants(o, further)
	defer func() { err = errors.Join(err, stop(list)) }()
	if err != nil {
		return nil, err
	}
	var courses []*course
	for _, c := range list {
		courses = append(courses, &course{contestant: c, withUser: true})
	}
	if _, err := o.race(ctx, courses); err != nil {
		return nil, err
	}
	return judgeWhole(courses, further), nil
}

func judgeWhole(courses []*course, further bool) *table {
	t := &table{Columns: []string{"median", "p95", "min", "create", "start", "wait", "destroy", "caisson x", "min x"}}
	totals := make(map[string][]time.Duration)
	for _, c := range courses {
		totals[c.contestant.name] = c.totals
	}
	own, floor := totals[rowCaisson], totals[rowFloorContainer]
	// crun and libcontainer, runc.
	least := [2]float64{4, 8}
	if further {
		t.Columns = []string{"median", "p95", "min", "caisson x", "min x"}
		least = [2]float64{8, 8}
	}
	for _, c := range courses {
		r := t.add(c, c.contestant.name, own)
		if r.Absent != "" || len(own) == 0 {
			continue
		}
		switch ratio := r.Values["caisson x"]; c.contestant.name {
		case rowCaisson:
			if len(floor) > 0 {
				r.Bars = append(r.Bars, atMost("C x", r.Values["median"]/float64(median(floor)), 1.3))
			}
		case rowLibcontainer:
			r.Bars = append(r.Bars, atLeast("caisson x", ratio, least[0]))
		case rowCrun:
			if !further {
				r.Bars = append(r.Bars, atLeast("caisson x", ratio, least[0]))
			}
		case rowRunc, rowRuncDebian:
			if !further {
				r.Bars = append(r.Bars, atLeast("caisson x", ratio, least[1]))
			}
		}
	}
	return t
}

// wholeContestants builds and starts everyone who is for whole containers.
func (p *place) wholeContestants(o options, further bool) (list []*contestant, err error) {
	root, err := p.rootfs()
	if err != nil {
		return nil, err
	}
	filter := filepath.Join(p.dir, "filter")
	if err := os.WriteFile(filter, seccomp.Default(usualCapabilities), 0o644); err != nil {
		return nil, err
	}
	key := "whole"
	var more []string
	if further {
		key, more = "exec", []string{"-exec"}
	}
	add := func(name string, build func() (string, error), command func(program string) (*exec.Cmd, error)) {
		if !o.wants(name) {
			return
		}
		c := &contestant{name: name}
		list = append(list, c)
		program, err := build()
		var cmd *exec.Cmd
		if err == nil {
			cmd, err = command(program)
		}
		if c.absent = err; err == nil {
			c.worker, c.absent = startWorker(cmd)
		}
	}
	add(rowFloorContainer, func() (string, error) { return p.gcc("floor/container.c") }, func(program string) (*exec.Cmd, error) {
		stub, err := p.gcc("floor/stub.c", "-nostdlib", "-fno-stack-protector")
		if err != nil {
			return nil, err
		}
		args := []string{"--root", root, "--seccomp", filter, "--stub", stub, "--name", p.name + "-c" + key}
		for _, path := range isolation.DefaultMasked() {
			args = append(args, "--masked", path)
		}
		for _, path := range isolation.DefaultGuarded() {
			args = append(args, "--guarded", path)
		}
		if further {
			args = append(args, "--exec")
		}
		return p.program(program, args...), nil
	})
	add(rowCaisson, func() (string, error) { return p.self, nil }, func(string) (*exec.Cmd, error) {
		return p.worker("container", append([]string{
			"-name", p.name + "-" + key, "-state", filepath.Join(p.state, key), "-root", root,
		}, more...)...), nil
	})
	peer := func(name, short string, build func() (string, error), args ...string) {
		add(name, build, func(program string) (*exec.Cmd, error) {
			bundle, err := p.wholeBundle(short+"-"+key, further)
			if err != nil {
				return nil, err
			}
			args := append(append(args, "-root", filepath.Join(p.state, short+"-"+key), "-user-bundle", bundle, "-lower", root), more...)
			cmd := p.program(program, args...)
			if name != rowLibcontainer {
				cmd = p.worker("command", append(args, program)...)
			}
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
			return cmd, nil
		})
	}
	filtered := []string{"-tags", "seccomp"}
	peer(rowLibcontainer, "libc", func() (string, error) {
		return p.goBuild("libcontainer-seccomp", "./libcontainer", true, filtered...)
	})
	peer(rowCrun, "crun", func() (string, error) { return installed("crun") }, p.coverUnified()...)
	peer(rowRuncDebian, "runc", func() (string, error) { return installed("runc") })
	peer(rowRunc, "runc152", func() (string, error) {
		return p.goBuild("runc-seccomp", "github.com/opencontainers/runc", true, filtered...)
	})
	return list, nil
}

// usualCapabilities are the fourteen of [isolation.DefaultCapabilities].
const usualCapabilities = 0xa80425fb

// rootfs is a directory with what the containers run.
func (p *place) rootfs() (string, error) {
	root := filepath.Join(p.dir, "image")
	errs := []error{copyProgram(root, "/bin/true"), copyProgram(root, "/bin/sleep")}
	for _, dir := range []string{"proc", "sys", "dev"} {
		errs = append(errs, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	return root, errors.Join(errs...)
}

// wholeBundle is the OCI bundle of a whole container.
func (p *place) wholeBundle(name string, sleeps bool) (string, error) {
	dir := filepath.Join(p.dir, "bundles", name)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755), os.MkdirAll(filepath.Join(dir, "mem"), 0o755)); err != nil {
		return "", err
	}
	spec, err := p.wholeSpec(name, filepath.Join(dir, "rootfs"))
	if err != nil {
		return "", err
	}
	if sleeps {
		spec.Process.Args = []string{"/bin/sleep", "1000000"}
	}
	config, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
}

// container is the worker that has Caisson in its process, and makes containers or,
// with -exec, further processes in one.
func container(args []string) error {
	flags := flag.NewFlagSet("container", flag.ContinueOnError)
	name := flags.String("name", "caisson-bench", "parent group")
	state := flags.String("state", "", "state directory")
	root := flags.String("root", "", "the layer of the root file system")
	further := flags.Bool("exec", false, "run further processes in one container")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: *state, Parent: *name})
	if err != nil {
		return err
	}
	spec := func(id string) isolation.Spec {
		s := sandboxSpec(id, true, false)
		s.Root = isolation.Root{Layers: []string{*root}}
		s.Namespaces.Cgroup = isolation.NamespaceNew
		return s
	}
	n := 0
	cycle := func(bool) ([]time.Duration, error) {
		n++
		return oneSandbox(ctx, host, spec("c"+strconv.Itoa(n)))
	}
	if *further {
		s := spec("exec")
		s.Process.Args = []string{"/bin/sleep", "1000000"}
		sandbox, err := host.Create(ctx, s)
		if err == nil {
			err = sandbox.Start(ctx)
		}
		if err != nil {
			return errors.Join(err, host.Close())
		}
		cycle = func(bool) ([]time.Duration, error) { return oneExec(ctx, sandbox) }
	}
	err = serve(cycle)
	if *further {
		err = errors.Join(err, host.Destroy(ctx, "exec"))
	}
	return errors.Join(err, host.Remove(ctx), host.Close())
}

func oneExec(ctx context.Context, s *isolation.Sandbox) ([]time.Duration, error) {
	begin := time.Now()
	e, err := s.Exec(ctx, isolation.Process{Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}}, os.Stdin, os.Stderr, os.Stderr)
	if err != nil {
		return nil, err
	}
	st, err := e.Wait(ctx)
	took := time.Since(begin)
	if err == nil && (!st.Known || st.Code != 0) {
		err = fmt.Errorf("/bin/true: %s", st)
	}
	return []time.Duration{took}, err
}
