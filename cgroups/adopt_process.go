// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// seat is where a process is in one tree.
type seat struct {
	n   *node
	raw string // as /proc/PID/cgroup names it
}

func (r *Root) adoptMember(pid int, all []membership) (*Cgroup, error) {
	f := &foreign{unified: "the container's processes are at the top of the unified tree, so the kernel does not count their pressure by itself"}
	var seats []seat
	fail := func(err error) (*Cgroup, error) {
		for _, s := range seats {
			err = errors.Join(err, s.n.dir.Close())
		}
		return nil, err
	}
	var none reasons
	for _, h := range r.hierarchies {
		s, reason, err := h.seat(all, pid)
		if err != nil {
			return fail(err)
		}
		if reason != "" {
			f.without(h, reason)
			none.add(h.name(), reason)
			continue
		}
		seats = append(seats, s)
	}
	var own []*node
	first := finest(seats)
	for i, s := range seats {
		reason, err := s.shared(r, first, all)
		if err != nil {
			seats = seats[i:]
			for _, n := range own {
				err = errors.Join(err, n.dir.Close())
			}
			return fail(err)
		}
		if reason == "" {
			own = append(own, s.n)
			continue
		}
		f.lacks(s.n, reason)
		none.add(s.n.in.name(), reason)
		if err := s.n.dir.Close(); err != nil {
			return nil, err
		}
	}
	if len(own) == 0 {
		return nil, &InvalidError{Field: "pid", Value: strconv.Itoa(pid), Reason: "it has no group of its own: " + none.String()}
	}
	return r.adopted(own, f)
}

// reasons are why a process has no group of its own, each with the trees in which
// that is so.
type reasons []struct{ why, trees string }

func (r *reasons) add(tree, why string) {
	for i := range *r {
		if (*r)[i].why == why {
			(*r)[i].trees += ", " + tree
			return
		}
	}
	*r = append(*r, struct{ why, trees string }{why, tree})
}

// String is "cpu, pids: the process is at the top of the tree; ...".
func (r reasons) String() string {
	list := make([]string, len(r))
	for i, one := range r {
		list[i] = one.trees + ": " + one.why
	}
	return strings.Join(list, "; ")
}

// seat opens the group of a process in h; a reason instead says why there is
// none of its own.
func (h *hierarchy) seat(all []membership, pid int) (s seat, reason string, err error) {
	raw, ok := h.raw(all)
	if !ok {
		return seat{}, "the kernel does not say where the process is in this tree", nil
	}
	rel, ok := h.locate(raw, pid)
	switch {
	case !ok:
		return seat{}, "its group " + raw + " is not below what is mounted at " + h.dir.Path() + ": the machine's tree has to be mounted whole", nil
	case rel == "":
		return seat{}, "the process is at the top of the tree", nil
	}
	dir, err := h.dir.OpenDir(rel)
	if err != nil {
		return seat{}, "", err
	}
	return seat{&node{in: h, dir: dir, path: rel}, raw}, "", nil
}

// finest is the seat that tells best who belongs to the container: that in the
// unified tree, which systemd and the runtimes keep, or else the deepest.
func finest(seats []seat) (best seat) {
	for _, s := range seats {
		if s.n.in.v2 {
			return s
		}
		if strings.Count(s.raw, "/") > strings.Count(best.raw, "/") {
			best = s
		}
	}
	return best
}

// shared says why s is not the container's alone: it is above a group that the
// process has in another tree, or has processes that are not in that of first.
func (s seat) shared(r *Root, first seat, all []membership) (reason string, err error) {
	for _, m := range all {
		if m.path != s.raw && beneath(s.raw, m.path) {
			return "the process shares the group " + s.raw + " with others, and has its own only in another tree", nil
		}
	}
	if s.n == first.n {
		return "", nil
	}
	inside, err := everyone([]*node{first.n})
	if err != nil {
		return "", err
	}
	here, err := everyone([]*node{s.n})
	if err != nil {
		return "", err
	}
	for _, pid := range here {
		if _, is := slices.BinarySearch(inside, pid); is {
			continue
		}
		other, err := r.memberships(strconv.Itoa(pid))
		if errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return "", err
		}
		raw, _ := first.n.in.raw(other)
		if !beneath(first.raw, raw) { // else it was forked since
			return fmt.Sprintf("process %d, which is not of the container, is in the group %s too", pid, s.raw), nil
		}
	}
	return "", nil
}
