// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/namespaces"
)

// machine tells the size of it.
func (d *doctor) machine() {
	d.add("kernel", ok, word("/proc/sys/kernel/osrelease")+" "+runtime.GOARCH,
		"Features are asked of this kernel one by one below, never guessed from its release.")
	d.add("cpus", ok, fmt.Sprintf("%d usable", runtime.NumCPU()), "This is what sandboxes share.")
	total, available := meminfo("MemTotal"), meminfo("MemAvailable")
	d.add("memory", ok, fmt.Sprintf("%s, %s available", human(total), human(available)), "This is what sandboxes share.")
	swap := meminfo("SwapTotal")
	d.either("swap", swap > 0, limited, human(swap),
		"A sandbox short of memory can be slowed down before it is killed.",
		"Anonymous memory cannot be reclaimed: a sandbox at its memory.max is killed, not slowed down.")
}

// meminfo is one line of /proc/meminfo, in bytes.
func meminfo(key string) uint64 {
	f := strings.Fields(line("/proc/meminfo", key+":"))
	if len(f) == 0 {
		return 0
	}
	n, _ := strconv.ParseUint(f[0], 10, 64)
	return n << 10
}

// line is what follows key on its line of a file; empty if there is none.
func line(path, key string) string {
	b, _ := os.ReadFile(path)
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, key); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// word is the text of a small file, or "unknown".
func word(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// privileges that sandboxes are made with.
func (d *doctor) privileges() {
	effective, _ := strconv.ParseUint(line("/proc/self/status", "CapEff:"), 16, 64)
	var lacking []string
	for _, c := range []struct {
		name string
		bit  uint
	}{
		{"CAP_CHOWN", 0}, {"CAP_DAC_OVERRIDE", 1}, {"CAP_KILL", 5}, {"CAP_SETGID", 6}, {"CAP_SETUID", 7},
		{"CAP_SETPCAP", 8}, {"CAP_NET_ADMIN", 12}, {"CAP_SYS_PTRACE", 19}, {"CAP_SYS_ADMIN", 21}, {"CAP_SYS_RESOURCE", 24},
	} {
		if effective>>c.bit&1 == 0 {
			lacking = append(lacking, c.name)
		}
	}
	found := fmt.Sprintf("uid %d, every capability that matters", os.Geteuid())
	if len(lacking) > 0 {
		found = fmt.Sprintf("uid %d, without %s", os.Geteuid(), strings.Join(lacking, ", "))
	}
	d.either("capabilities", len(lacking) == 0, limited, found,
		"Nothing is refused for lack of a right.",
		"What needs one of these is refused; the findings below say what that is.")

	most, privileged := word("/proc/sys/user/max_user_namespaces"), "for anybody"
	if word("/proc/sys/kernel/unprivileged_userns_clone") == "0" || word("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
		privileged = "for root alone"
	}
	if _, err := namespaces.IDOf(os.Getpid(), namespaces.User); err == nil {
		d.either("user namespaces", most != "0", missing, "at most "+most+", "+privileged,
			"Work can be root inside its sandbox and nobody outside.",
			"/proc/sys/user/max_user_namespaces forbids them: root inside a sandbox is root outside.")
	} else {
		d.add("user namespaces", missing, "this kernel has none", "Root inside a sandbox is root outside.")
	}

	const sysAdmin, bpf = 21, 39
	switch {
	case word("/proc/sys/kernel/unprivileged_bpf_disabled") == "unknown":
		d.add("bpf", missing, "this kernel has no bpf(2)", "Device nodes cannot be filtered on cgroup v2.")
	case effective>>sysAdmin&1 == 0 && effective>>bpf&1 == 0:
		d.add("bpf", limited, "there, but this process has neither CAP_BPF nor CAP_SYS_ADMIN", "Device nodes cannot be filtered on cgroup v2.")
	default:
		d.add("bpf", ok, "there, and may be used", "Device nodes can be filtered on cgroup v2 too.")
	}

	actions := word("/proc/sys/kernel/seccomp/actions_avail")
	own := map[string]string{"0": "this process has no filter", "1": "this process is in strict mode", "2": "this process is behind a filter"}[line("/proc/self/status", "Seccomp:")]
	d.either("seccomp", actions != "unknown" && own == "this process has no filter", limited, strings.Trim(own+"; actions: "+actions, "; "),
		"System calls can be filtered, and none of ours are.",
		"A filter around this process, or a kernel without filters, may make calls below fail.")
}

// hierarchies reports whether there are control groups to work with.
func (d *doctor) hierarchies() bool {
	root, err := cgroups.Open(d.config.CgroupMount)
	if err != nil {
		d.add("cgroups", missing, oneLine(err), "Without control groups there are no sandboxes.")
		return false
	}
	defer root.Close()
	follows := map[cgroups.Mode]string{
		cgroups.Unified: "Every limit is in one tree, with the newest features.",
		cgroups.Legacy:  "Limits are in v1's trees, which lack memory.high, memory.low and memory.min.",
		cgroups.Hybrid:  "Limits are in v1's trees, which lack memory.high, memory.low and memory.min; pressure comes from the unified tree.",
	}
	best := root.Mode() == cgroups.Unified
	d.either("cgroups", best, limited, root.Mode().String(), follows[root.Mode()], follows[root.Mode()])
	d.controllers(root)

	path, found := root.Unified()
	switch {
	case !found:
		d.add("unified tree", missing, "none", "There is no pressure per sandbox; mounting a cgroup2 tree, also without a path, needs CAP_SYS_ADMIN.")
	case root.Detached():
		d.add("unified tree", ok, "none is mounted; a detached mount of our own serves", "Pressure, kill and freeze work as on v2; nobody else sees that tree.")
	default:
		d.add("unified tree", ok, path, "Pressure, kill and freeze work in it, whatever tree the limits are in.")
	}
	var p cgroups.Pressure
	if err := root.Pressure(cgroups.PressureCPU, &p); err != nil {
		d.add("pressure", missing, reason(err), "Nobody can be told that work is short of CPU, memory or IO: boot with psi=1.")
	} else {
		d.add("pressure", ok, fmt.Sprintf("cpu %.1f%% of the last 10 s on this machine", p.Some.Avg10), "Shortage of CPU, memory and IO is measured.")
	}
	return true
}

// controllers lists where each one is.
func (d *doctor) controllers(root *cgroups.Root) {
	for _, c := range []struct {
		cgroups.Controller
		lost string
	}{
		{cgroups.ControllerCPU, "CPU time cannot be limited."},
		{cgroups.ControllerCPUSet, "Work cannot be pinned to CPUs."},
		{cgroups.ControllerMemory, "Memory cannot be limited."},
		{cgroups.ControllerIO, "Disk traffic cannot be limited."},
		{cgroups.ControllerPIDs, "A fork bomb cannot be stopped by a number."},
	} {
		path, version, there := root.Where(c.Controller)
		name := "controller " + c.String()
		switch {
		case !there:
			d.add(name, missing, "in no hierarchy", c.lost)
		default:
			d.add(name, ok, fmt.Sprintf("v%d in %s", version, path), "It limits and measures.")
		}
	}
}
