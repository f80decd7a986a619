// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// inventory is what there is of ours on the machine, counted without asking the
// host: by what the kernel shows to everybody.
type inventory struct {
	cgroups     int // directories at and below the parent group, in each hierarchy
	processes   int // in these groups
	mounts      int // in this program's mount namespace, where the sandboxes make theirs
	descriptors int // of this program
	files       int // in the state directory

	namespaces int                  // that the sandboxes have and this program has not
	held       []*namespaces.Handle // of these: the kernel gives a number to another namespace once it is free
}

// look counts.
func look(o options) inventory {
	// The runtime keeps a few descriptors from the first pipe on.
	if r, w, err := os.Pipe(); err == nil {
		_, _ = r.Close(), w.Close()
	}
	v := inventory{
		cgroups:     countGroups(o.config.Parent),
		processes:   len(processes(o.config.Parent)),
		descriptors: entries("/proc/self/fd"),
		files:       walk(o.config.Root),
	}
	v.mounts = countMounts(o)
	return v
}

// countMounts counts what is mounted on /proc, as every sandbox does in a mount
// namespace of its own, and what bears a name of ours. Other programs may mount
// something at any time.
func countMounts(o options) int {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	n := 0
	for line := range strings.Lines(string(b)) {
		const target = 4
		f := strings.Fields(line)
		if len(f) > target && (f[target] == "/proc" || strings.Contains(line, o.config.Root) || strings.Contains(line, o.config.Parent)) {
			n++
		}
	}
	return n
}

// countGroups goes through every hierarchy that is mounted, and the one that
// may be without a path.
func countGroups(parent string) int {
	root, err := cgroups.Open("")
	if err != nil {
		return 0
	}
	defer root.Close()
	tops := map[string]bool{}
	for _, c := range root.Controllers().List() {
		if path, _, ok := root.Where(c); ok && path != "" {
			tops[path] = true
		}
	}
	if path, ok := root.Unified(); ok && path != "" {
		tops[path] = true
	}
	n := 0
	for top := range tops {
		_ = filepath.WalkDir(filepath.Join(top, parent), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				n++
			}
			return nil
		})
	}
	if root.Detached() {
		if g, err := root.Open(parent); err == nil {
			n++
			_ = g.Close()
		}
	}
	return n
}

// processes lists those in the groups at and below parent.
func processes(parent string) []string {
	var pids []string
	all, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, path := range all {
		b, _ := os.ReadFile(path)
		if strings.Contains(string(b), ":/"+parent+"/") || strings.Contains(string(b), ":/"+parent+"\n") {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

func entries(dir string) int {
	list, _ := os.ReadDir(dir)
	return len(list)
}

func walk(dir string) int {
	n := 0
	_ = filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error {
		if err == nil {
			n++
		}
		return nil
	})
	return n
}

var kinds = []namespaces.Kind{
	namespaces.PID, namespaces.Mount, namespaces.IPC, namespaces.UTS, namespaces.Network, namespaces.Cgroup,
}

// hold notes the namespaces of the sandboxes.
func (v *inventory) hold(ctx context.Context, sandboxes ...*isolation.Sandbox) {
	for _, sb := range sandboxes {
		st, err := sb.Check(ctx)
		if err != nil {
			continue
		}
		for _, kind := range kinds {
			ours, err := namespaces.IDOf(os.Getpid(), kind)
			if err != nil {
				continue
			}
			theirs, err := namespaces.OpenPID(st.PID, kind)
			if err != nil {
				continue
			}
			if theirs.ID() == ours {
				_ = theirs.Close()
				continue
			}
			v.held = append(v.held, theirs)
		}
	}
	v.namespaces = len(v.held)
}

// release lets go of the namespaces, and returns how many of them some process is
// still in.
func (v *inventory) release() (alive int) {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/*")
	in := map[string]bool{}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil {
			in[to] = true
		}
	}
	for _, ns := range v.held {
		if in[ns.String()] {
			alive++
		}
		_ = ns.Close()
	}
	v.held = nil
	return alive
}

// printLeftovers compares, and fails if something of ours is still there.
func printLeftovers(before, running, after inventory) error {
	fmt.Println("\nleft behind              before   running   after")
	var errs []error
	for _, c := range []struct {
		name                   string
		before, running, after int
	}{
		{"cgroup directories", before.cgroups, running.cgroups, after.cgroups},
		{"processes in them", before.processes, running.processes, after.processes},
		{"their namespaces", before.namespaces, running.namespaces, after.namespaces},
		{"mounts to be seen", before.mounts, running.mounts, after.mounts},
		{"our open descriptors", before.descriptors, running.descriptors, after.descriptors},
		{"files of state", before.files, running.files, after.files},
	} {
		fmt.Printf("  %-20s %8d  %8d %7d\n", c.name, c.before, c.running, c.after)
		if c.after > c.before {
			errs = append(errs, fmt.Errorf("%s: %d before, %d after", c.name, c.before, c.after))
		}
	}
	if len(errs) == 0 {
		fmt.Println("Nothing.")
	}
	return errors.Join(errs...)
}
