// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// doctorChild is the hidden command that doctor's sandboxes run: it waits until
// doctor ends.
const doctorChild = "doctor-child"

// trial is a host of doctor's own, taken away when it is done.
type trial struct {
	*doctor
	host *isolation.Host
	hold *os.File // closing it ends the workloads
	in   *os.File
	n    int
}

// sandboxes tries things in sandboxes that it removes again, and reports
// whether a plain one works.
func (d *doctor) sandboxes(ctx context.Context) bool {
	dir, err := os.MkdirTemp("", "caisson-doctor-")
	if err != nil {
		d.add("sandbox", missing, oneLine(err), "There is nowhere to keep state.")
		return false
	}
	defer os.RemoveAll(dir)
	parent := d.config.Parent
	if parent == "" {
		parent = "caisson"
	}
	host, err := isolation.Open(ctx, isolation.Config{
		Root: dir, Parent: fmt.Sprintf("%s-doctor-%d", parent, os.Getpid()), CgroupMount: d.config.CgroupMount,
		Ungrouped: true,
	})
	if err != nil {
		d.add("sandbox", missing, oneLine(err), "No sandbox can be made.")
		return false
	}
	defer host.Close()
	if host.Parent() == nil {
		d.add("groups", limited, "this user may make none", "Sandboxes work with --ungrouped, or as root, or in a cgroup2 directory that was delegated to this user (--cgroup-mount).")
	}
	for _, l := range host.Lacks() {
		d.add("sandboxes of this user", limited, "cannot have "+l.What, oneLine(errors.New(l.Why))+".")
	}
	t := &trial{doctor: d, host: host}
	if t.in, t.hold, err = os.Pipe(); err != nil {
		d.add("sandbox", missing, oneLine(err), "No sandbox can be made.")
		return false
	}
	usable := t.plain(ctx)
	if usable {
		t.namespaces(ctx)
	}
	_ = t.hold.Close()
	_ = t.in.Close()
	if err := host.Remove(context.WithoutCancel(ctx)); err != nil {
		d.add("clean up", limited, oneLine(err), "Something of this examination is left behind.")
	}
	return usable
}

// try makes a sandbox, has use look at it, and destroys it.
func (t *trial) try(ctx context.Context, spec isolation.Spec, use func(*isolation.Sandbox, time.Duration)) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	t.n++
	spec.ID = fmt.Sprintf("try-%d", t.n)
	spec.Process = isolation.Process{Args: []string{exe, doctorChild}, Env: os.Environ()}
	begin := time.Now()
	sb, err := t.host.Create(ctx, spec)
	if err != nil {
		return err
	}
	if err = sb.Start(ctx, t.in); err == nil {
		use(sb, time.Since(begin))
	}
	return errors.Join(err, t.destroy(ctx, sb))
}

// waitForDoctor is what a workload of doctor does.
func waitForDoctor(stdin io.Reader) int {
	_, _ = io.Copy(io.Discard, stdin)
	return 0
}

func (t *trial) plain(ctx context.Context) bool {
	err := t.try(ctx, isolation.Spec{}, func(sb *isolation.Sandbox, took time.Duration) {
		status, err := sb.Check(ctx)
		if err != nil {
			t.add("sandbox", limited, oneLine(err), "A sandbox runs, but cannot be looked at.")
			return
		}
		t.either("sandbox", len(status.Missing) == 0, limited,
			fmt.Sprintf("a process in new pid, mount, ipc, uts and cgroup namespaces%s, in %s",
				map[bool]string{true: " and in its groups"}[sb.Cgroup() != nil], took.Round(10*time.Microsecond)),
			"Create and start work.", "Create and start work, without "+strings.Join(status.Missing, ", ")+".")
		if sb.Cgroup() == nil {
			return
		}
		t.birth()
		t.freeze(ctx, sb)
		t.kill(sb)
		t.triggers(sb)
		t.limits(sb)
		t.devices(ctx, sb)
	})
	if err != nil {
		t.add("sandbox", missing, oneLine(err), "No sandbox can be made and ended.")
	}
	return err == nil
}

// birth is known from a sandbox having been started.
func (t *trial) birth() {
	if _, there := t.host.Root().Unified(); !there {
		t.add("clone into cgroup", limited, "no unified tree to be born in", "A process joins its groups itself, before the program begins.")
		return
	}
	t.add("clone into cgroup", ok, "works", "No process of a sandbox ever runs outside of its groups.")
}

func (t *trial) freeze(ctx context.Context, sb *isolation.Sandbox) {
	begin := time.Now()
	err := sb.Freeze(ctx)
	took := time.Since(begin)
	if err = errors.Join(err, sb.Thaw(ctx)); err != nil {
		t.add("freeze", missing, oneLine(err), "Sandboxes cannot be stopped and continued.")
		return
	}
	t.add("freeze", ok, "all processes stopped in "+took.Round(10*time.Microsecond).String(), "A sandbox can be stopped at once and continued later.")
}

// kill looks for the file; destroying the trial's sandboxes uses it.
func (t *trial) kill(sb *isolation.Sandbox) {
	path, there := t.host.Root().Unified()
	if !there || path == "" {
		t.add("kill", ok, "by freezing and signals, or by cgroup.kill in a tree without a path", "Fork bombs die too.")
		return
	}
	_, err := os.Stat(filepath.Join(path, sb.Cgroup().Path(), "cgroup.kill"))
	t.either("kill", err == nil, limited, map[bool]string{true: "cgroup.kill", false: "no cgroup.kill"}[err == nil],
		"One write ends every process of a sandbox.",
		"Ending a sandbox freezes and signals its processes one by one, which takes longer.")
}

func (t *trial) triggers(sb *isolation.Sandbox) {
	var p cgroups.Pressure
	if err := sb.Cgroup().Pressure(cgroups.PressureCPU, &p); err != nil {
		t.add("sandbox pressure", missing, reason(err), "Who is short of what cannot be told per sandbox.")
		return
	}
	t.add("sandbox pressure", ok, "cpu, memory and io", "Who is short of what is known per sandbox.")
	n, err := sb.Cgroup().OpenTrigger(cgroups.PressureCPU, cgroups.Trigger{Stall: 100 * time.Millisecond, Window: time.Second})
	if err != nil {
		t.add("pressure triggers", limited, reason(err), "Pressure is found by sampling the counters: events come up to 0.2 s late and cost a little CPU time.")
		return
	}
	_ = n.Close()
	t.add("pressure triggers", ok, "windows from 500ms", "The kernel itself tells of pressure, at once.")
}

// limits asks for a plan of each knob; nothing is written.
func (t *trial) limits(sb *isolation.Sandbox) {
	disk, err := firstDisk()
	if err != nil {
		t.add("disk", limited, oneLine(err), "There is nothing for io limits to apply to.")
	}
	one := cgroups.Bytes(1 << 30)
	ioDevice := func(d cgroups.IODevice) cgroups.Resources {
		d.Device = disk
		return cgroups.Resources{IO: cgroups.IO{Devices: []cgroups.IODevice{d}}}
	}
	for _, group := range []struct {
		name  string
		knobs map[string]cgroups.Resources
		order []string
	}{
		{"cpu limits", map[string]cgroups.Resources{
			"cpu.weight":    {CPU: cgroups.CPU{Weight: cgroups.WeightOf(50)}},
			"cpu.max":       {CPU: cgroups.CPU{Max: cgroups.CPUs(1)}},
			"cpu.max.burst": {CPU: cgroups.CPU{Max: cgroups.CPUs(1), Burst: cgroups.DurationOf(time.Millisecond)}},
			"cpu.idle":      {CPU: cgroups.CPU{Idle: cgroups.On}},
			"cpuset.cpus":   {CPUSet: cgroups.CPUSet{CPUs: cgroups.DefaultSet()}},
		}, []string{"cpu.weight", "cpu.max", "cpu.max.burst", "cpu.idle", "cpuset.cpus"}},
		{"memory limits", map[string]cgroups.Resources{
			"memory.max":       {Memory: cgroups.Memory{Max: one}},
			"memory.high":      {Memory: cgroups.Memory{High: one}},
			"memory.low":       {Memory: cgroups.Memory{Low: one}},
			"memory.min":       {Memory: cgroups.Memory{Min: one}},
			"memory.swap.max":  {Memory: cgroups.Memory{Max: one, Swap: one}},
			"memory.oom.group": {Memory: cgroups.Memory{OOMGroup: cgroups.On}},
		}, []string{"memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max", "memory.oom.group"}},
		{"io limits", map[string]cgroups.Resources{
			"io.max":     ioDevice(cgroups.IODevice{WriteBytes: one}),
			"io.weight":  {IO: cgroups.IO{Weight: cgroups.WeightOf(50)}},
			"io.latency": ioDevice(cgroups.IODevice{Latency: cgroups.DurationOf(10 * time.Millisecond)}),
		}, []string{"io.max", "io.weight", "io.latency"}},
		{"process limits", map[string]cgroups.Resources{
			"pids.max": {PIDs: cgroups.PIDs{Max: cgroups.Count(100)}},
		}, []string{"pids.max"}},
	} {
		var have, lack []string
		for _, name := range group.order {
			if strings.HasPrefix(name, "io.") && name != "io.weight" && disk.IsZero() {
				continue
			}
			if _, err := sb.Plan(group.knobs[name]); err != nil {
				lack = append(lack, name+" ("+reason(err)+")")
				continue
			}
			have = append(have, name)
		}
		l := ok
		if len(lack) > 0 {
			l = limited
		}
		if len(have) == 0 {
			l = missing
		}
		follows := "Each can be set, and changed while work runs."
		if len(lack) > 0 {
			follows = "Refused here: " + strings.Join(lack, ", ") + "."
		}
		t.add(group.name, l, strings.Join(have, " "), follows)
	}
}

// reason is why something is not supported, without the words around it.
func reason(err error) string {
	var u *isolation.UnsupportedError
	if errors.As(err, &u) && u.Reason != "" {
		return u.Reason
	}
	return oneLine(err)
}

// firstDisk is a block device for which io limits can be asked.
func firstDisk() (cgroups.Device, error) {
	queues, _ := filepath.Glob("/sys/block/*/queue")
	for _, q := range queues {
		dir := filepath.Dir(q)
		if name := filepath.Base(dir); strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "zram") {
			continue
		}
		return cgroups.ParseDevice(word(filepath.Join(dir, "dev")))
	}
	return cgroups.Device{}, errors.New("/sys/block has no disk")
}

// devices sets a rule for real: on v2 that loads a BPF program.
func (t *trial) devices(ctx context.Context, sb *isolation.Sandbox) {
	by := "v1's devices controller"
	if _, version, there := t.host.Root().Where(cgroups.ControllerDevices); !there || version == 2 {
		by = "a BPF program"
	}
	if _, err := sb.Update(ctx, cgroups.Resources{Devices: cgroups.DefaultDevices()}); err != nil {
		t.add("devices", missing, oneLine(err), "A sandbox with root inside can open every device node that it sees.")
		return
	}
	t.add("devices", ok, "filtered by "+by, "A sandbox gets only the device nodes that it is allowed.")
}

// namespaces tries the kinds that a sandbox has only on demand.
func (t *trial) namespaces(ctx context.Context) {
	own := func(outside uint32) namespaces.IDMaps {
		return namespaces.IDMaps{{Inside: 0, Outside: outside, Count: 1}}
	}
	for _, c := range []struct {
		name        string
		ns          isolation.Namespaces
		with, lacks string
	}{
		{"network namespace", isolation.Namespaces{Network: isolation.NamespaceNew},
			"A sandbox can have a network of its own.", "Sandboxes share the machine's network."},
		{"user namespace", isolation.Namespaces{
			User: isolation.NamespaceNew, UIDMap: own(uint32(os.Geteuid())), GIDMap: own(uint32(os.Getegid())),
		}, "A sandbox can have users of its own.", "Sandboxes share the machine's users."},
		{"time namespace", isolation.Namespaces{Time: isolation.NamespaceNew},
			"A sandbox can have clocks of its own.", "Sandboxes share the machine's clocks."},
	} {
		if err := t.try(ctx, isolation.Spec{Namespaces: c.ns}, func(*isolation.Sandbox, time.Duration) {}); err != nil {
			t.add(c.name, missing, oneLine(err), c.lacks)
			continue
		}
		t.add(c.name, ok, "works", c.with)
	}
}
