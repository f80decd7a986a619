// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// membership is one line of /proc/PID/cgroup.
type membership struct {
	v2          bool
	controllers Controllers // of a v1 hierarchy
	path        string      // as the reader's cgroup namespace names it
}

// parseMemberships reads /proc/PID/cgroup: "4:memory:/a", "0::/a".
func parseMemberships(b []byte) ([]membership, error) {
	var all []membership
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			return nil, fmt.Errorf("line %q is not of the form number:controllers:/path", line)
		}
		m := membership{v2: f[0] == "0" && f[1] == "", path: f[2]}
		for name := range strings.SplitSeq(f[1], ",") {
			if ctl, known := parseController(name); known {
				m.controllers |= ControllersOf(ctl)
			}
		}
		all = append(all, m)
	}
	return all, nil
}

func memberships(pid string) ([]membership, error) {
	name := "/proc/" + pid + "/cgroup"
	b, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		err = &FileError{Op: "open", Path: name, Err: syscall.ESRCH}
	}
	if err != nil {
		return nil, err
	}
	all, err := parseMemberships(b)
	if err != nil {
		return nil, &FileError{Op: "parse", Path: name, Err: err}
	}
	return all, nil
}

// of finds the path in h, relative to its top, among the memberships. pid is the
// process that they are of, or 0 if it may have been moved since.
func (h *hierarchy) of(all []membership, pid int) (rel string, ok bool) {
	raw, ok := h.raw(all)
	if !ok {
		return "", false
	}
	return h.locate(raw, pid)
}

// raw finds the path in h as the kernel names it.
func (h *hierarchy) raw(all []membership) (path string, ok bool) {
	if h.root == "" {
		return "", false
	}
	for _, m := range all {
		if m.v2 == h.v2 && (h.v2 || m.controllers == h.controllers) {
			return m.path, true
		}
	}
	return "", false
}

// locate turns a path of /proc/PID/cgroup into one relative to h's top.
//
// To a process in a cgroup namespace both the path and the top are named from
// that namespace's root: "/../b" is beside it, and the top of a mount that shows
// more is "/../..". The names of the groups in between are nowhere to be read,
// so the process is looked for.
func (h *hierarchy) locate(raw string, pid int) (rel string, ok bool) {
	up, rest := climb(raw)
	topUp, top := climb(h.root)
	switch {
	case up == topUp:
		if rel, ok = within(top, rest); !ok {
			return "", false
		}
		return strings.TrimPrefix(rel, "/"), true
	case up > topUp || top != "/" || pid <= 0:
		return "", false
	}
	return h.search("", topUp-up, strings.TrimPrefix(rest, "/"), pid)
}

// climb splits off the leading "/.." of a path.
func climb(p string) (up int, rest string) {
	for p == "/.." || strings.HasPrefix(p, "/../") {
		p = p[len("/.."):]
		up++
	}
	if p == "" {
		p = "/"
	}
	return up, p
}

// beneath reports whether the group p is dir or below it, both as one reader's
// cgroup namespace names them.
func beneath(dir, p string) bool {
	up, rest := climb(p)
	dirUp, top := climb(dir)
	if up != dirUp {
		return up < dirUp && top == "/"
	}
	_, ok := within(top, rest)
	return ok
}

// search finds the group that ends in rest, depth elements below prefix, and
// has the process pid.
func (h *hierarchy) search(prefix string, depth int, rest string, pid int) (rel string, ok bool) {
	if depth == 0 {
		rel := path.Join(prefix, rest)
		b, err := h.dir.ReadFile(path.Join(rel, fileProcs), nil)
		pids, _ := parsePIDs(nil, b)
		if err != nil || !slices.Contains(pids, pid) {
			return "", false
		}
		return rel, true
	}
	dir := h.dir
	if prefix != "" {
		var err error
		if dir, err = h.dir.OpenDir(prefix); err != nil {
			return "", false
		}
		defer dir.Close()
	}
	names, err := dir.Dirs()
	if err != nil {
		return "", false
	}
	for _, name := range names {
		if rel, ok := h.search(path.Join(prefix, name), depth-1, rest, pid); ok {
			return rel, true
		}
	}
	return "", false
}

// HoldsCaller reports whether this process is in the group or below it.
func (c *Cgroup) HoldsCaller() bool {
	all, err := c.root.memberships("self")
	if err != nil {
		return false
	}
	for _, n := range c.places() {
		if rel, ok := n.in.of(all, os.Getpid()); ok {
			if _, inside := within(n.path, rel); inside {
				return true
			}
		}
	}
	return false
}

// putBack moves a process to where it was in h.
func (h *hierarchy) putBack(ctx context.Context, pid int, before []membership) error {
	rel, ok := h.of(before, 0)
	if !ok {
		return fmt.Errorf("process %d stays in %s: where it was is outside of this tree", pid, h.dir.Path())
	}
	return moveTo(ctx, h.dir, path.Join(rel, fileProcs), pid)
}
