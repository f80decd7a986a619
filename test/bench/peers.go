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

func containerdStat(g *cgroups.Cgroup) *bench {
	b := &bench{name: "containerd/cgroups"}
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
	b := &bench{name: "opencontainers/cgroups"}
	m, err := manager.New(&oci.Cgroup{Path: "/" + g.Path(), Resources: &oci.Resources{SkipDevices: true}})
	b.err, b.do = err, func() error { _, err := m.GetStats(); return err }
	return b
}

func containerdUpdate(g *cgroups.Cgroup, next func() (memory, pids, quota int64)) *bench {
	b := &bench{name: "containerd/cgroups"}
	period := uint64(100000)
	if g.Mode() == cgroups.Unified {
		m, err := cgroup2.Load("/" + g.Path())
		b.err, b.do = err, func() error {
			memory, pids, quota := next()
			return m.Update(&cgroup2.Resources{
				CPU:    &cgroup2.CPU{Max: cgroup2.NewCPUMax(&quota, &period)},
				Memory: &cgroup2.Memory{Max: &memory}, Pids: &cgroup2.Pids{Max: pids},
			})
		}
		return b
	}
	m, err := cgroup1.Load(cgroup1.StaticPath("/" + g.Path()))
	b.err, b.do = err, func() error {
		memory, pids, quota := next()
		return m.Update(&specs.LinuxResources{
			CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period},
			Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids},
		})
	}
	return b
}

func opencontainersUpdate(g *cgroups.Cgroup, next func() (memory, pids, quota int64)) *bench {
	b := &bench{name: "opencontainers/cgroups"}
	m, err := manager.New(&oci.Cgroup{Path: "/" + g.Path(), Resources: &oci.Resources{SkipDevices: true}})
	b.err, b.do = err, func() error {
		memory, pids, quota := next()
		return m.Set(&oci.Resources{
			CpuQuota: quota, CpuPeriod: 100000, Memory: memory, PidsLimit: &pids, SkipDevices: true,
		})
	}
	return b
}
