// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// kernel is a Debian kernel. The first of the suites that serves it is taken.
type kernel struct {
	name    string
	suites  []string
	arch    string   // Debian's name, which is Go's for these
	systemd bool     // init is the suite's systemd, and only the tests for it run
	modules []string // besides those of all
}

var (
	linux510     = kernel{"5.10", []string{"bullseye"}, "amd64", false, nil}
	linux61      = kernel{"6.1", []string{"bookworm"}, "amd64", false, nil}
	linux612     = kernel{"6.12", []string{"trixie", "bookworm-backports"}, "amd64", false, []string{"xfs"}}
	linux61arm64 = kernel{"6.1-arm64", []string{"bookworm"}, "arm64", false, nil}
	systemd61    = kernel{"6.1-systemd", []string{"bookworm"}, "amd64", true, nil}
)

// environment is a kernel with a layout of cgroup hierarchies, made by init.sh:
//
//	v1      each v1 controller mounted alone, no cgroup2 at all
//	hybrid  the v1 controllers as systemd mounts them, and a cgroup2 without any
//	v2      cgroup2 at /sys/fs/cgroup
//
// Under systemd it is systemd that mounts them.
type environment struct {
	kernel kernel
	mode   string
	has    []string // classes besides those of every environment and mode
}

func (e environment) name() string { return e.kernel.name + "/" + e.mode }

// Those that take longest come first, so that no machine is left with one of them
// when the others have ended.
var matrix = []environment{
	{linux612, "v2", slices.Concat(since61, since612, ociRuntimes)},
	{linux61, "v1", legacySince61},
	{linux510, "hybrid", nil},
	{linux61arm64, "v2", since61},
	{linux61, "v2", since61},
	{linux61, "hybrid", legacySince61},
	{systemd61, "v2", slices.Concat([]string{"systemd"}, since61, runtimes)},
	{linux510, "v2", []string{"socket-groups"}},
	{systemd61, "hybrid", slices.Concat([]string{"systemd", "crun"}, legacySince61)},
}

// The classes of internal/testutil that each environment offers. A test that
// is skipped for one of them fails, and so does one skipped for a class that
// is not named in this file.
var (
	always = []string{"linux", "matrix", "psi", "userns", "swap", "blockdev", "keyrings"}

	users  = []string{"root", "user"} // in init.sh's order
	asUser = map[string][]string{
		"root": {"root", "cap-sys-resource", "cap-net-admin", "scratch-blockdev", "macvlan", "ipvlan", "tbf", "htb", "cls_bpf", "nftables"},
		"user": {"unprivileged"},
	}

	legacy = []string{
		"cgroup1", "cgroup1.cpu", "cgroup1.cpuacct", "cgroup1.cpuset", "cgroup1.memory", "cgroup1.devices",
		"cgroup1.freezer", "cgroup1.blkio", "cgroup1.pids", "cgroup1.net_cls", "cgroup1.net_prio",
		"cgroup1.perf_event", "cgroup1.hugetlb", "cgroup1.rdma",
	}

	byMode = map[string][]string{
		"v1":     legacy,
		"hybrid": append([]string{"cgroup2"}, legacy...),
		"v2": {
			"cgroup2", "cgroup2.cpu", "cgroup2.cpuset", "cgroup2.memory", "cgroup2.io", "cgroup2.pids",
			"cgroup2.hugetlb", "cgroup2.rdma",
		},
	}

	// Control files and more, newer than 5.10, by the kernels above that brought them.
	since61 = []string{
		"cgroup2.misc", "cgroup.kill", "cgroup.pressure", "cpu.idle", "cpu.max.burst", "memory.peak",
		"memory.reclaim", "pids.peak", "overlay.user", "exec.user", "landlock", "prjquota", "socket-groups",
	}
	since612      = []string{"idmapped", "landlock.scope", "cpuset.cpus.exclusive", "memory.swap.peak", "pids.events.local", "xfs"}
	legacySince61 = []string{"cgroup1.misc", "cgroup.kill", "cgroup.pressure", "cpu.idle", "cpu.cfs_burst_us", "overlay.user", "exec.user", "landlock", "prjquota", "socket-groups"}
)

// absent are classes that no environment offers, each for a reason.
var absent = []string{
	"pidfd.exit", // Linux 6.15
	"iperf3",     // a program of Debian's; TestRates is the same without
	"fuse",       // a module that not each of these kernels needs to bring
	"driver",     // an interface that a driver of the conformance suite's own tests lacks
	"real",       // a machine that is not emulated, for what would take long and is no matter of kernels
	"e2e",        // whole lives of other people's containers, with a Go toolchain
}

// offers lists the classes that the tests of this user find.
func (e environment) offers(user string) []string {
	list := slices.Concat(always, asUser[user], byMode[e.mode], e.has)
	if slices.Contains(ends, e.name()) {
		list = append(list, "each-kernel")
	}
	if e.mode == "v2" && user == "user" && !e.kernel.systemd {
		list = append(list, "delegation")
	}
	return list
}

// known reports whether this file knows the class at all.
func known(class string) bool {
	return slices.Contains(absent, class) || slices.ContainsFunc(matrix, func(e environment) bool {
		return slices.Contains(e.offers("root"), class) || slices.Contains(e.offers("user"), class)
	})
}

// onSystemd are the packages whose tests run where systemd is init; those of test/e2e
// run nowhere else.
var onSystemd = append([]string{"cgroups/systemd"}, foreignTests...)

// tests are those of all that run on the kernel.
func (k kernel) tests(all []testBinary) (these []testBinary) {
	for _, b := range all {
		if k.systemd && slices.Contains(onSystemd, b.pkg) || !k.systemd && b.pkg != "test/e2e" {
			these = append(these, b)
		}
	}
	return these
}

// The matrix is for what kernels and cgroup modes do. For these packages the mode
// makes little difference or none: they run on the oldest kernel, on the newest, and
// on another architecture.
var modeless = []string{
	"netns", "netns/nft", "namespaces", "cgroups/cgroupstest", "cgroups/metrics", "cgroups/runtimespec",
	"internal/cgroupfake", "internal/compact", "internal/devfilter", "internal/launch", "internal/parse", "internal/rtnl", "internal/seccomp",
	"internal/supervise", "internal/wire", "isolation/supervisor",
}

var ends = []string{"5.10/hybrid", "6.12/v2", "6.1-arm64/v2"}

// For these, which have no assembly, system-call numbers or structures of the
// kernel of their own, another architecture makes no difference either.
var portable = []string{"netns", "netns/nft", "cgroups/cgroupstest", "cgroups/metrics", "cgroups/runtimespec", "internal/cgroupfake"}

// chosen are the environments of what takes long: programs that are built of the
// packages, in each mode, and agents that are killed at every system call.
var chosen = map[string][]string{
	"elastic":               {"5.10/hybrid", "6.1/v1", "6.12/v2"},
	"examples/caisson":      {"6.1/v1", "6.12/v2"},
	"examples/colocate":     {"6.12/v2"},
	"examples/quickstart":   {"6.1/v1", "6.12/v2"},
	"examples/replay":       {"6.12/v2"},
	"internal/testutil":     {"5.10/hybrid", "6.1/v1", "6.12/v2"},
	"isolationtest":         {"6.1/v1", "6.12/v2"},
	"isolation/oci":         {"5.10/hybrid", "6.12/v2"},
	"isolation/ociruntime":  {"6.1-systemd/hybrid", "6.12/v2"},
	"isolation/logs":        {"5.10/hybrid", "6.12/v2"},
	"isolation/runtimespec": {"6.12/v2"},
	"test/crash":            {"6.12/v2"},
}

// tests are those of all that run in the environment; where packages were asked
// for by name, all of them.
func (e environment) tests(all []testBinary, asked bool) []testBinary {
	return slices.DeleteFunc(e.kernel.tests(all), func(b testBinary) bool {
		switch envs, some := chosen[b.pkg]; {
		case asked:
			return false
		case some:
			return !slices.Contains(envs, e.name())
		}
		return slices.Contains(modeless, b.pkg) && !slices.Contains(ends, e.name()) ||
			slices.Contains(portable, b.pkg) && e.kernel.arch != "amd64"
	})
}

// notHere are packages whose tests need the source tree or a Go toolchain.
var notHere = []string{"test/arch", "test/vm"}

// modules are what the tests need of Debian's cloud kernels, with whatever
// these depend on. Those that a kernel has built in are left out, and one with a
// question mark is part of another module on some kernels.
var modules = []string{
	"virtio_pci", "virtio_mmio", "virtio_blk", "loop", "quota_v2", "overlay", "fuse?", "bfq", "null_blk",
	"veth", "bridge", "br_netfilter", "dummy", "ifb", "tun", "macvlan", "ipvlan",
	"sch_htb", "sch_tbf", "sch_ingress", "sch_fq", "sch_fq_codel", "sch_netem",
	"cls_matchall", "cls_u32", "cls_bpf", "cls_cgroup", "act_police", "act_mirred", "act_bpf",
	"nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_chain_nat", "nft_counter?", "nft_fib_inet",
	"ip_tables", "iptable_filter", "iptable_nat", "xt_MASQUERADE",
}
