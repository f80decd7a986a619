// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"github.com/caisson-run/caisson/cgroups"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	oci "github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The two libraries, on a group that is there already.

const (
	rowContainerd     = "containerd/cgroups"
	rowOpencontainers = "opencontainers/cgroups"
)

func containerdStat(g *cgroups.Cgroup) *bench {
	b := &bench{name: rowContainerd}
	if g.Mode() == cgroups.Unified {
		m, err := cgroup2.Load("/" + g.Path())
		b.err, b.do = err, func() error { _, err := m.Stat(); return err }
		return b
	}
	m, err := cgroup1.Load(cgroup1.StaticPath("/" + g.Path()))
	b.err, b.do = err, func() error { _, err := m.Stat(cgroup1.IgnoreNotExist); return err }
	return b
}

func opencontainersStat(g *cgroups.Cgroup) *bench {
	b := &bench{name: rowOpencontainers}
	m, err := manager.New(&oci.Cgroup{Path: "/" + g.Path(), Resources: &oci.Resources{SkipDevices: true}})
	b.err, b.do = err, func() error { _, err := m.GetStats(); return err }
	return b
}

func containerdUpdate(g *cgroups.Cgroup, next func() knobs) *bench {
	b := &bench{name: rowContainerd}
	period := uint64(100000)
	if g.Mode() == cgroups.Unified {
		m, err := cgroup2.Load("/" + g.Path())
		b.err, b.do = err, func() error {
			l := next()
			weight := l.shares(true)
			return m.Update(&cgroup2.Resources{
				CPU:    &cgroup2.CPU{Weight: &weight, Max: cgroup2.NewCPUMax(&l.quota, &period), Cpus: l.cpus},
				Memory: &cgroup2.Memory{Max: &l.memory}, Pids: &cgroup2.Pids{Max: l.pids},
			})
		}
		return b
	}
	m, err := cgroup1.Load(cgroup1.StaticPath("/" + g.Path()))
	b.err, b.do = err, func() error {
		l := next()
		shares := l.shares(false)
		return m.Update(&specs.LinuxResources{
			CPU:    &specs.LinuxCPU{Shares: &shares, Quota: &l.quota, Period: &period, Cpus: l.cpus},
			Memory: &specs.LinuxMemory{Limit: &l.memory}, Pids: &specs.LinuxPids{Limit: &l.pids},
		})
	}
	return b
}

func opencontainersUpdate(g *cgroups.Cgroup, next func() knobs) *bench {
	b := &bench{name: rowOpencontainers}
	m, err := manager.New(&oci.Cgroup{Path: "/" + g.Path(), Resources: &oci.Resources{SkipDevices: true}})
	v2 := g.Mode() == cgroups.Unified
	b.err, b.do = err, func() error {
		l := next()
		r := &oci.Resources{
			CpuQuota: l.quota, CpuPeriod: 100000, CpusetCpus: l.cpus, Memory: l.memory, PidsLimit: &l.pids, SkipDevices: true,
		}
		if r.CpuShares = l.shares(v2); v2 {
			r.CpuShares, r.CpuWeight = 0, l.shares(v2)
		}
		return m.Set(r)
	}
	return b
}
