// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// CheckLeaks fails the test if, after its other cleanups, something is there
// that was not when CheckLeaks was called:
//
//   - a file descriptor or goroutine of this process, or a child process,
//   - a thread in other namespaces than the thread group leader,
//   - a mount, or a cgroup at the top of a hierarchy. Inside the kernel matrix
//     every one counts. On a machine where others work too, these do: mounts
//     in directories that this test got from TempDir, and mounts and cgroups
//     that carry a name of [CgroupName] made by this process.
//
// Call it first in a test, and not in parallel tests. It waits up to a
// second for things to end by themselves, such as a locked thread.
func CheckLeaks(tb testing.TB) {
	tb.Helper()
	startPoller()
	tmp := filepath.Dir(tb.TempDir()) + "/"
	routines := goleak.IgnoreCurrent()
	before := resources(tmp)
	tb.Cleanup(func() {
		if err := goleak.Find(routines); err != nil {
			tb.Errorf("leaked: %v", err)
		}
		deadline := time.Now().Add(time.Second)
		for {
			leaks := added(before, resources(tmp))
			if len(leaks) == 0 {
				return
			}
			if time.Now().After(deadline) {
				tb.Errorf("leaked:\n\t%s", strings.Join(leaks, "\n\t"))
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// startPoller makes the runtime open the descriptors it keeps for its network
// poller, which are no leak of whoever uses it first.
func startPoller() {
	if r, w, err := os.Pipe(); err == nil {
		_, _ = r.Close(), w.Close()
	}
}

func added(before, after []string) []string {
	count := make(map[string]int, len(before))
	for _, s := range before {
		count[s]++
	}
	var more []string
	for _, s := range after {
		if count[s]--; count[s] < 0 {
			more = append(more, s)
		}
	}
	return more
}

// resources lists what this process holds, one line each. Lines of the same
// thing are equal from call to call.
func resources(tmp string) []string {
	all := descriptors()
	all = append(all, threads()...)
	all = append(all, mounts(tmp)...)
	return append(all, cgroups()...)
}

func descriptors() []string {
	var list []string
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		// The descriptor that reads this directory is closed by now.
		if to, err := os.Readlink(fd); err == nil {
			to = strings.TrimSuffix(to, " (deleted)") // as the files of a thread that ends meanwhile
			list = append(list, fmt.Sprintf("descriptor %s of %s", filepath.Base(fd), to))
		}
	}
	return list
}

// threads lists child processes, and the namespaces of threads where they are
// not those of the thread group leader.
func threads() []string {
	var list []string
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, task := range tasks {
		children, _ := os.ReadFile(task + "/children")
		for child := range strings.FieldsSeq(string(children)) {
			list = append(list, "child process "+child)
		}
		links, _ := filepath.Glob(task + "/ns/*")
		for _, link := range links {
			if strings.HasSuffix(link, "_for_children") {
				continue
			}
			leader, err1 := os.Readlink("/proc/self/ns/" + filepath.Base(link))
			thread, err2 := os.Readlink(link)
			if err1 == nil && err2 == nil && leader != thread {
				list = append(list, fmt.Sprintf("thread %s in %s, not %s", filepath.Base(task), thread, leader))
			}
		}
	}
	return list
}

func mounts(tmp string) []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var list []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		point := f[4]
		if Emulated() || strings.HasPrefix(point+"/", tmp) || strings.Contains(line, ownPrefix()) {
			list = append(list, "mount at "+point)
		}
	}
	return list
}

func cgroups() []string {
	hierarchies, _ := CgroupMounts()
	var list []string
	for _, h := range hierarchies {
		dirs, _ := filepath.Glob(h.Path + "/*/")
		for _, dir := range dirs {
			if Emulated() || strings.HasPrefix(filepath.Base(dir), ownPrefix()) {
				list = append(list, "cgroup "+dir)
			}
		}
	}
	return list
}
