// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// share is the part of the machine that the two sandboxes compete for.
type share struct {
	cpus   cgroups.Set
	disk   cgroups.Device // under dir; zero if there is none that can be limited
	dir    string         // for scratch files
	have   cgroups.Controllers
	absent []string // what the sandboxes do without, and why
}

func lookForShare(host *isolation.Host) share {
	m := share{cpus: usableCPUs(), have: host.Root().Controllers()}
	for _, c := range []cgroups.Controller{
		cgroups.ControllerCPU, cgroups.ControllerCPUSet, cgroups.ControllerMemory, cgroups.ControllerPIDs, cgroups.ControllerIO,
	} {
		if !m.have.Has(c) {
			m.absent = append(m.absent, fmt.Sprintf("limits of %s: no cgroup hierarchy has that controller", c))
		}
	}
	var err error
	for _, dir := range []string{os.TempDir(), "/var/tmp", "/"} {
		var e error
		if m.disk, e = diskOf(dir); e == nil {
			m.dir = dir
			return m
		}
		if err == nil {
			err = e
		}
	}
	m.absent = append(m.absent, "disk traffic: "+err.Error())
	return m
}

// usableCPUs are half of the CPUs that this process may run on, and at most two:
// the rest of the machine goes on.
func usableCPUs() cgroups.Set {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "\nCpus_allowed_list:")
	list, _, _ := strings.Cut(rest, "\n")
	allowed, err := cgroups.ParseSet(strings.TrimSpace(list))
	if err != nil {
		return cgroups.SetOf(0)
	}
	cpus := slices.Collect(allowed.Each)
	return cgroups.SetOf(cpus[len(cpus)-min(2, max(1, len(cpus)/2)):]...)
}

// spec is a sandbox in namespaces of its own of every kind that the host does
// not have to arrange, for one of the workloads of this program.
func (m share) spec(id string, tick time.Duration) isolation.Spec {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	n := m.cpus.Len()
	r := cgroups.Resources{}
	if m.have.Has(cgroups.ControllerCPU) {
		r.CPU = cgroups.CPU{Weight: cgroups.WeightOf(100), Max: cgroups.CPUs(float64(n))}
	}
	if m.have.Has(cgroups.ControllerCPUSet) {
		r.CPUSet.CPUs = m.cpus
	}
	if m.have.Has(cgroups.ControllerMemory) {
		r.Memory.Max = cgroups.Bytes(256 << 20)
	}
	if m.have.Has(cgroups.ControllerPIDs) {
		r.PIDs.Max = cgroups.Count(64)
	}
	if m.have.Has(cgroups.ControllerIO) && !m.disk.IsZero() {
		r.IO.Devices = []cgroups.IODevice{{Device: m.disk, WriteBytes: cgroups.Bytes(8 << 20)}}
	}
	return isolation.Spec{
		ID:     id,
		Labels: map[string]string{"example": "quickstart"},
		Process: isolation.Process{
			Args: []string{exe, id, strconv.Itoa(n), tick.String(), m.dir},
			Env:  []string{"GOMAXPROCS=" + strconv.Itoa(n)},
		},
		Resources:  r,
		Namespaces: isolation.Namespaces{Network: isolation.NamespaceNew}, // pid, mount, ipc, uts and cgroup are new by default
	}
}

// comeFirst gives the two together more weight, on the CPUs that they share, than
// other work on this machine has: this is about the two. The other CPUs are left
// to everybody else; without any, it does nothing.
func comeFirst(ctx context.Context, host *isolation.Host, m share) error {
	if !m.have.Has(cgroups.ControllerCPU) || !m.have.Has(cgroups.ControllerCPUSet) || m.cpus.Len() == runtime.NumCPU() {
		return nil
	}
	_, err := host.Parent().Update(ctx, cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(1000)}})
	return err
}

// tighten plans little CPU time, only what nobody else wants where the kernel
// has cpu.idle, and little disk traffic for the batch job.
func tighten(batch *isolation.Sandbox, m share) (cgroups.Plan, error) {
	r := cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On, Max: cgroups.CPUs(0.2 * float64(m.cpus.Len()))}}
	if !m.disk.IsZero() {
		r.IO.Devices = []cgroups.IODevice{{Device: m.disk, WriteBytes: cgroups.Bytes(1 << 20)}}
	}
	plan, err := batch.Plan(r)
	if errors.Is(err, isolation.ErrNotSupported) {
		fmt.Println("without cpu.idle:", err)
		r.CPU.Idle, r.CPU.Weight = cgroups.Keep, cgroups.WeightOf(1)
		return batch.Plan(r)
	}
	return plan, err
}

// limitsText is a sandbox's limits in a line.
func limitsText(r cgroups.Resources) string {
	var parts []string
	if !r.CPU.Max.IsZero() {
		parts = append(parts, fmt.Sprintf("cpu weight %s and at most %s", r.CPU.Weight, r.CPU.Max))
	}
	if n, ok := r.Memory.Max.Value(); ok {
		parts = append(parts, "memory "+size(float64(n)))
	}
	if !r.PIDs.Max.IsZero() {
		parts = append(parts, "tasks "+r.PIDs.Max.String())
	}
	for _, d := range r.IO.Devices {
		if n, ok := d.WriteBytes.Value(); ok {
			parts = append(parts, fmt.Sprintf("writes to disk %s %s/s", d.Device, size(float64(n))))
		}
	}
	return strings.Join(parts, ", ")
}

// showMachine is what can be said without the right to make anything.
func showMachine() error {
	root, err := cgroups.Open("")
	if err != nil {
		return err
	}
	defer root.Close()
	fmt.Printf("  %d CPUs, %s cgroups\n", runtime.NumCPU(), root.Mode())
	for _, c := range root.Controllers().List() {
		path, version, _ := root.Where(c)
		fmt.Printf("  %-8s v%d in %s\n", c, version, filepath.Clean(path))
	}
	for _, res := range []cgroups.PressureResource{cgroups.PressureCPU, cgroups.PressureMemory, cgroups.PressureIO} {
		var p cgroups.Pressure
		if err := root.Pressure(res, &p); err != nil {
			return err
		}
		fmt.Printf("  %s pressure: some work stalled %.1f%% of the last 10 s\n", res, p.Some.Avg10)
	}
	return nil
}
