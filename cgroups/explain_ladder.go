// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A rung is a group on the way from the one to be explained to the top of a
// tree.
type rung struct {
	in  *hierarchy
	own *node  // the group itself; nil for those above it
	rel string // path below the top; empty at the top
}

// ladder are the rungs of ctl's tree, the group first; nil if there is no such
// tree.
func (e *explainer) ladder(ctl Controller) ([]rung, error) {
	n := e.c.node(ctl)
	if n == nil {
		h := e.c.root.where[ctl]
		switch {
		case h == nil:
			return nil, nil
		case h.v2:
			n = e.c.unified()
		}
		if n == nil {
			return e.ladderOfProcess(h)
		}
	}
	return e.rungs(n.in, n, n.path)
}

// ladderOfProcess is for a v1 tree that the group is not in.
func (e *explainer) ladderOfProcess(h *hierarchy) ([]rung, error) {
	pids, err := e.c.Procs(nil)
	if err != nil {
		return nil, err
	}
	pid := os.Getpid()
	if len(pids) > 0 {
		pid = pids[0]
	}
	all, err := e.c.root.memberships(strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	rel, _ := h.of(all, pid) // the top, if it is outside of what is visible
	return e.rungs(h, nil, rel)
}

func (e *explainer) rungs(h *hierarchy, own *node, rel string) ([]rung, error) {
	if err := e.lookAbove(h); err != nil {
		return nil, err
	}
	all := []rung{{in: h, own: own, rel: rel}}
	for rel != "" {
		if rel = path.Dir(rel); rel == "." {
			rel = ""
		}
		all = append(all, rung{in: h, rel: rel})
	}
	return all, nil
}

// lookAbove notes a tree whose top is not the real one's, which has files that
// no other group has, or lacks some.
func (e *explainer) lookAbove(h *hierarchy) error {
	file, real := "cgroup.events", false
	if !h.v2 {
		file, real = "release_agent", true
	}
	has, err := h.dir.Has(file)
	if err == nil && has != real && !slices.Contains(e.to.Unseen, h.dir.Path()) {
		e.to.Unseen = append(e.to.Unseen, h.dir.Path())
	}
	return err
}

// read reads a file of the group; ok is false if it has none of this name.
func (r rung) read(file string) (text string, ok bool, err error) {
	var b []byte
	if r.own != nil {
		b, err = r.own.dir.ReadFile(file, nil)
		err = r.own.failed(err)
	} else {
		b, err = r.in.dir.ReadFile(path.Join(r.rel, file), nil)
	}
	if errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrGone) {
		return "", false, nil
	}
	return strings.TrimSpace(string(b)), err == nil, err
}

func (r rung) level(file, text string, l Limit) Level {
	group := r.rel
	if group == "" {
		group = "/"
	}
	return Level{Group: group, Path: r.in.dir.Join(path.Join(r.rel, file)), Text: text, Limit: l}
}
