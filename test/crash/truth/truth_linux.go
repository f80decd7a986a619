// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// World is what there is.
type World struct {
	Groups    map[string]*Group // by the name of the group, which is the sandbox's
	Processes map[string][]int  // that run marked programs, by what follows the mark
	Records   []string          // names of files in the directory of records
}

// Group is one sandbox's group in all trees.
type Group struct {
	Trees    []string          // mount points of the trees that have it
	PIDs     []int             // in any of them
	Below    []string          // groups in it
	Frozen   bool              // as asked for; the kernel may be at it still
	Freezing bool              // it is
	Knobs    map[string]string // in v2's words
	Labels   map[string]string // extended attributes
}

// Look reads everything about the groups below parent, the records in the
// directory, and the processes that have mark as an argument.
func Look(parent, records, mark string) (*World, error) {
	w := &World{Groups: make(map[string]*Group), Processes: make(map[string][]int)}
	trees, err := trees()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(trees, func(t string) bool { return exists(filepath.Join(t, "cgroup.controllers")) }) {
		fd, err := unified()
		if err != nil {
			return nil, err
		}
		defer syscall.Close(fd)
		trees = append(trees, descriptorPath(fd))
	}
	for _, t := range trees {
		if err := w.tree(t, filepath.Join(t, parent)); err != nil {
			return nil, err
		}
	}
	for _, g := range w.Groups {
		slices.Sort(g.PIDs)
		g.PIDs = slices.Compact(g.PIDs)
	}
	entries, err := os.ReadDir(records)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range entries {
		w.Records = append(w.Records, e.Name())
	}
	err = w.processes(mark)
	for _, pids := range w.Processes {
		slices.Sort(pids)
	}
	return w, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// trees are the mount points of cgroup file systems.
func trees() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if len(f) > 4 && (strings.HasPrefix(after, "cgroup ") || strings.HasPrefix(after, "cgroup2 ")) {
			all = append(all, f[4])
		}
	}
	return all, nil
}

func (w *World) tree(mount, dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if strings.HasPrefix(e.Name(), "_") { // sandboxes of one class
			if err := w.tree(mount, filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		g := w.Groups[e.Name()]
		if g == nil {
			g = &Group{Knobs: make(map[string]string), Labels: make(map[string]string)}
			w.Groups[e.Name()] = g
		}
		g.Trees = append(g.Trees, mount)
		if err := g.read(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return err
}

// files are those with limits, and what v2 calls them.
var files = map[string]string{
	"pids.max": "pids.max", "memory.max": "memory.max", "memory.limit_in_bytes": "memory.max",
	"cpu.max": "cpu.max", "cpu.cfs_quota_us": "cpu.max", "cpu.weight": "cpu.weight", "cpu.shares": "cpu.shares",
	"memory.oom.group": "memory.oom.group",
}

func (g *Group) read(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			g.Below = append(g.Below, filepath.Join(dir, e.Name()))
		}
	}
	for file, knob := range files {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			g.Knobs[knob] = strings.TrimSpace(string(text))
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "cpu.cfs_period_us")); err == nil {
		g.Knobs["cpu.max"] += " " + strings.TrimSpace(string(text))
	}
	g.freezer(dir, "cgroup.freeze", "cgroup.events", "frozen 1")
	g.freezer(dir, "freezer.self_freezing", "freezer.state", "FROZEN")
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for word := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		g.PIDs = append(g.PIDs, pid)
	}
	g.attributes(dir)
	return nil
}

// freezer reads whether the tree of one directory freezes the group, and whether it
// has come to that.
func (g *Group) freezer(dir, asked, file, done string) {
	text, err := os.ReadFile(filepath.Join(dir, asked))
	if err != nil {
		return
	}
	frozen := strings.TrimSpace(string(text)) == "1"
	g.Frozen = g.Frozen || frozen
	text, err = os.ReadFile(filepath.Join(dir, file))
	if err == nil && strings.Contains(string(text), done) != frozen {
		g.Freezing = true
	}
}

// processes finds marked ones.
func (w *World) processes(mark string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if i := slices.Index(args, mark); i >= 0 && i+1 < len(args) {
			w.Processes[args[i+1]] = append(w.Processes[args[i+1]], pid)
		}
	}
	return nil
}
