// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"syscall"
)

// ensure puts the group under ctl, if it is not, and returns where its files
// are. On v2 the groups above pass the controller on. On v1 the group's
// directory in that tree is made, and the processes of the group and of the
// groups below it are moved there. c.mu is held.
func (c *Cgroup) ensure(ctx context.Context, ctl Controller) (*node, error) {
	if n := c.node(ctl); n != nil {
		return n, nil
	}
	h := c.root.where[ctl]
	if h == nil {
		if n := c.unified(); n != nil && c.root.without(ctl) {
			return n, nil
		}
		return nil, noController(ctl)
	}
	if c.foreign != nil {
		return nil, c.notUnder(ctl)
	}
	want := ControllersOf(ctl)
	for _, n := range c.places() {
		if n.in == h {
			have, err := n.enable(c.path, want)
			if err != nil {
				return nil, err
			}
			c.layout.Lock()
			defer c.layout.Unlock()
			c.put(n, have)
			return n, nil
		}
	}
	n, err := h.create(c.path)
	if err != nil {
		return nil, err
	}
	have, err := n.prepare(c.path, want)
	if err == nil {
		err = c.fill(ctx, n)
	}
	if err != nil {
		return nil, errors.Join(err, n.discard(c.path))
	}
	c.insert(n, have)
	return n, nil
}

// insert puts n into the group where the root's order has its tree.
func (c *Cgroup) insert(n *node, under Controllers) {
	c.layout.Lock()
	defer c.layout.Unlock()
	nodes := c.nodes
	i := 0
	for _, h := range c.root.hierarchies {
		if h == n.in {
			break
		}
		if i < len(nodes) && nodes[i].in == h {
			i++
		}
	}
	c.nodes = slices.Concat(nodes[:i], []*node{n}, nodes[i:]) // readers may hold the old slice
	if n.in == c.root.unified {
		c.uni = n
	}
	c.put(n, under)
}

// fill moves the group's processes into its new directory n, until none that
// forked meanwhile is left out. If it fails, all are put back.
func (c *Cgroup) fill(ctx context.Context, n *node) error {
	var moves []move
	for {
		more, err := c.fillOnce(ctx, n, &moves)
		if err != nil {
			return errors.Join(err, n.empty(context.WithoutCancel(ctx), moves))
		}
		if !more {
			return nil
		}
	}
}

// move is where a process was before it was moved.
type move struct {
	pid  int
	from []membership
}

func (c *Cgroup) fillOnce(ctx context.Context, n *node, moves *[]move) (more bool, err error) {
	all, err := everyone(c.places())
	if err != nil {
		return false, err
	}
	inside, err := everyone([]*node{n})
	if err != nil {
		return false, err
	}
	for _, pid := range all {
		if _, is := slices.BinarySearch(inside, pid); is {
			continue
		}
		more = true
		from, err := c.root.memberships(strconv.Itoa(pid))
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			*moves = append(*moves, move{pid, from})
			err = n.add(ctx, pid)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return false, err
		}
	}
	return more, nil
}

// empty puts the processes in n back where they were; one that forked since
// goes where the first was.
func (n *node) empty(ctx context.Context, moves []move) error {
	for {
		pids, err := everyone([]*node{n})
		if err != nil || len(pids) == 0 || len(moves) == 0 {
			return err
		}
		for _, pid := range pids {
			i := max(0, slices.IndexFunc(moves, func(m move) bool { return m.pid == pid }))
			if err := n.in.putBack(ctx, pid, moves[i].from); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
}
