// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const cgroupPrefix = "caisson-test-"

// CgroupMount is a mounted cgroup hierarchy of this process's mount namespace.
type CgroupMount struct {
	Path        string   // the mount point
	V2          bool     // cgroup2
	Controllers []string // none for a named v1 hierarchy, and for cgroup2 beside v1
}

// CgroupMounts lists the mounted cgroup hierarchies in the order of
// /proc/self/mountinfo. It has no fallbacks and is for judging the code under
// test.
func CgroupMounts() ([]CgroupMount, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	known, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return nil, err
	}
	var mounts []CgroupMount
	for line := range strings.Lines(string(b)) {
		left, right, _ := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) < 5 || len(r) < 3 {
			return nil, fmt.Errorf("mountinfo line %q has too few fields", line)
		}
		m := CgroupMount{Path: l[4], V2: r[0] == "cgroup2"}
		switch r[0] {
		case "cgroup2":
			list, err := os.ReadFile(filepath.Join(m.Path, "cgroup.controllers"))
			if err != nil {
				continue // covered by another mount
			}
			m.Controllers = strings.Fields(string(list))
		case "cgroup":
			for o := range strings.SplitSeq(r[2], ",") {
				if strings.Contains(string(known), "\n"+o+"\t") {
					m.Controllers = append(m.Controllers, o)
				}
			}
		default:
			continue
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

var sweepOnce sync.Once // one sweep per test binary is enough

// CgroupName returns a new name for a test's cgroups, in any hierarchy. When
// the test ends, cgroups that still have this name at the top of a hierarchy
// are a leak: they are killed and removed, and the test fails.
//
// The first call also removes what test runs that were killed have left. A run
// counts as gone when no process has its pid and start time any more; the name
// carries both, and the pid namespace in which they mean something.
func CgroupName(tb testing.TB) string {
	tb.Helper()
	sweepOnce.Do(func() { sweep(dead) })
	name := ownPrefix() + strings.ToLower(rand.Text()[:8])
	tb.Cleanup(func() {
		for _, left := range sweep(func(base string) bool { return base == name }) {
			tb.Errorf("leaked: cgroup %s", left)
		}
	})
	return name
}

// ownPrefix begins the names of all test cgroups of this process.
func ownPrefix() string {
	pid := os.Getpid()
	return fmt.Sprintf("%s%s-%d-%s-", cgroupPrefix, pidNamespace(), pid, startTime(pid))
}

// dead reports whether name was made in this pid namespace by a process that is
// gone.
func dead(name string) bool {
	rest, ours := strings.CutPrefix(name, cgroupPrefix+pidNamespace()+"-")
	f := strings.Split(rest, "-")
	if !ours || len(f) != 3 {
		return false
	}
	pid, err := strconv.Atoi(f[0])
	return err == nil && pid > 0 && startTime(pid) != f[1]
}

// startTime returns the start time of a process in clock ticks since boot, or
// "" if there is none.
func startTime(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// proc_pid_stat(5): the name in parentheses is field 2, starttime field 22.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return ""
	}
	return f[19]
}

func pidNamespace() string {
	link, _ := os.Readlink("/proc/self/ns/pid")
	return strings.Trim(strings.TrimPrefix(link, "pid:"), "[]")
}

// sweep removes every test cgroup, with what is in it, whose name matches, and
// returns the paths it found.
func sweep(match func(name string) bool) []string {
	mounts, _ := CgroupMounts()
	var found []string
	for _, m := range mounts {
		tops, _ := filepath.Glob(filepath.Join(m.Path, cgroupPrefix+"*"))
		for _, top := range tops {
			if match(filepath.Base(top)) {
				found = append(found, top)
				removeCgroup(top)
			}
		}
	}
	return found
}

// removeCgroup kills what runs in the tree and removes it, leaves first.
func removeCgroup(top string) {
	var dirs []string
	_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	for range 50 {
		left := false
		for _, dir := range dirs {
			_ = os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
			procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for p := range strings.FieldsSeq(string(procs)) {
				if pid, err := strconv.Atoi(p); err == nil && pid > 1 && pid != os.Getpid() {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
				left = true
			}
		}
		if !left {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
