// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
)

const fileProcs = "cgroup.procs"

// Procs lists the processes in the group, not those in groups below it, in
// buf[:0], which grows as needed: ascending, each once, whichever of the trees
// it is in. Processes of other pid namespaces have no number here and are left
// out. The list is not of one moment.
//
// The error matches [ErrGone] if the group was removed, [ErrNotSupported] on a
// threaded v2 group, whose processes only the domain above it lists.
func (c *Cgroup) Procs(buf []int) ([]int, error) {
	pids := buf[:0]
	for _, n := range c.places() {
		var err error
		pids, err = readPIDs(n.dir, pids)
		if errors.Is(err, syscall.EOPNOTSUPP) {
			return nil, &UnsupportedError{Feature: fileProcs, Reason: n.dir.Path() + " is a threaded group", Err: err}
		}
		if err != nil {
			return nil, n.failed(err)
		}
	}
	return unique(pids), nil
}

// everyone lists the processes in the groups' directories and all below them.
func everyone(nodes []*node) ([]int, error) {
	var pids []int
	for _, n := range nodes {
		err := walk(n.dir, func(dir *kernfs.Dir) (err error) {
			list, err := readPIDs(dir, pids)
			if err == nil {
				pids = list
			}
			if kernfs.IsGone(err) || errors.Is(err, syscall.EOPNOTSUPP) {
				return nil // removed since, or threaded: the domain above lists its processes
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return unique(pids), nil
}

func unique(pids []int) []int {
	slices.Sort(pids)
	return slices.Compact(pids)
}

// readPIDs appends the processes in dir to pids.
func readPIDs(dir *kernfs.Dir, pids []int) ([]int, error) {
	var buf [1024]byte
	b, err := dir.ReadFile(fileProcs, buf[:])
	if err != nil {
		return nil, err
	}
	pids, bad := parsePIDs(pids, b)
	if bad != "" {
		return nil, &FileError{Op: "parse", Path: dir.Join(fileProcs), Data: bad, Err: errNoPID}
	}
	return pids, nil
}

var errNoPID = errors.New("not a process id")

// parsePIDs appends the numbers in b, one a line, to pids; bad is the first
// line that is none. 0 stands for a process of another pid namespace.
func parsePIDs(pids []int, b []byte) (_ []int, bad string) {
	for line := range bytes.Lines(b) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		n, err := strconv.ParseUint(string(line), 10, 31)
		if err != nil {
			return nil, string(line)
		}
		if n != 0 {
			pids = append(pids, int(n))
		}
	}
	return pids, ""
}

// walk calls f with every directory below dir, then with dir: children first.
// Directories that go away meanwhile are left out.
func walk(dir *kernfs.Dir, f func(*kernfs.Dir) error) error {
	n, err := dir.Subdirs()
	if err != nil {
		return err
	}
	if n > 0 {
		names, err := dir.Dirs()
		if err != nil && !kernfs.IsGone(err) {
			return err
		}
		for _, name := range names {
			child, err := dir.OpenDir(name)
			if kernfs.IsGone(err) {
				continue
			}
			if err == nil {
				err = errors.Join(walk(child, f), child.Close())
			}
			if err != nil {
				return err
			}
		}
	}
	return f(dir)
}

// Populated reports whether a process is in the group or in a group below it,
// in any of its trees. A process whose last thread is about to leave, which
// [Cgroup.Processes] does not list any more, still is.
func (c *Cgroup) Populated() (bool, error) {
	var legacy []*node
	for _, n := range c.places() {
		if !n.in.v2 {
			legacy = append(legacy, n)
			continue
		}
		if is, err := n.event("populated"); is || err != nil {
			return is, err
		}
	}
	for _, n := range legacy {
		is, err := n.hasTasks()
		if is || err != nil {
			return is, n.failed(err)
		}
		if n.gone() {
			return false, &goneError{&FileError{Op: "open", Path: n.dir.Join(fileProcs), Err: syscall.ENOENT}}
		}
	}
	return false, nil
}

// occupied is Populated for some of a group's trees, where one from which the
// group is gone holds nobody.
func occupied(nodes []*node) (bool, error) {
	for _, n := range nodes {
		occupied := n.hasTasks
		if n.in.v2 {
			occupied = n.hasProcesses
		}
		if is, err := occupied(); !errors.Is(err, ErrGone) && (is || err != nil) {
			return is, err
		}
	}
	return false, nil
}

// hasProcesses reports whether a process is in a group of v2 or below it. Those
// of a threaded group are the domain's above it.
func (n *node) hasProcesses() (bool, error) {
	is, err := n.event("populated")
	if is {
		if _, err := readPIDs(n.dir, nil); errors.Is(err, syscall.EOPNOTSUPP) {
			return false, nil
		}
	}
	return is, err
}

// hasTasks reports whether a thread is in a group of v1 or below it. The file
// cgroup.procs leaves a process out when its last thread begins to exit, and
// the group is busy until that thread has left it.
func (n *node) hasTasks() (is bool, err error) {
	err = walk(n.dir, func(dir *kernfs.Dir) error {
		var first [16]byte
		if is {
			return nil
		}
		f, err := dir.Open("tasks", os.O_RDONLY)
		if err == nil {
			var read int
			read, err = f.ReadAt(first[:])
			is = read > 0
			err = errors.Join(err, f.Close())
		}
		if kernfs.IsGone(err) {
			return nil // removed since
		}
		return err
	})
	return is, err
}

const fileEvents = "cgroup.events"

// event reads one line of cgroup.events.
func (n *node) event(name string) (bool, error) {
	var buf [64]byte
	b, err := n.dir.ReadFile(fileEvents, buf[:])
	if err != nil {
		return false, n.failed(err)
	}
	is, known := parseEvent(string(b), name)
	if !known {
		return false, &FileError{Op: "parse", Path: n.dir.Join(fileEvents), Data: string(b), Err: errors.New("no " + name)}
	}
	return is, nil
}

// parseEvent finds "name 0" or "name 1" in cgroup.events.
func parseEvent(events, name string) (is, known bool) {
	for line := range strings.Lines(events) {
		if v, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), name+" "); ok {
			return v == "1", v == "0" || v == "1"
		}
	}
	return false, false
}
