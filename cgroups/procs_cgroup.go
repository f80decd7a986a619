// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
)

// membership is one line of /proc/PID/cgroup.
type membership struct {
	v2          bool
	controllers Controllers // of a v1 hierarchy
	path        string      // as the reader's cgroup namespace names it
}

// parseMemberships reads /proc/PID/cgroup: "4:memory:/a", "0::/a". v1 hierarchies
// without known controllers are left out.
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
		if m.v2 || m.controllers != 0 {
			all = append(all, m)
		}
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

// of finds the path in h, relative to its top, among the memberships.
func (h *hierarchy) of(all []membership) (rel string, ok bool) {
	if h.root == "" {
		return "", false
	}
	for _, m := range all {
		if m.v2 == h.v2 && (h.v2 || m.controllers == h.controllers) {
			rel, ok := within(h.root, m.path)
			return strings.TrimPrefix(rel, "/"), ok
		}
	}
	return "", false
}

// holdsCaller reports whether this process is in the group or below it.
func (c *Cgroup) holdsCaller() bool {
	all, err := memberships("self")
	if err != nil {
		return false
	}
	for _, n := range c.places() {
		if rel, ok := n.in.of(all); ok {
			if _, inside := within(c.path, rel); inside {
				return true
			}
		}
	}
	return false
}

// putBack moves a process to where it was in h.
func (h *hierarchy) putBack(pid int, before []membership) error {
	rel, ok := h.of(before)
	if !ok {
		return fmt.Errorf("process %d stays in %s: where it was is outside of this tree", pid, h.dir.Path())
	}
	return h.dir.WriteFile(path.Join(rel, fileProcs), strconv.Itoa(pid))
}
