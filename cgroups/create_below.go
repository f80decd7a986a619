// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"strings"
)

// CreateBelow makes the group name below c, in every tree that c is in, under the
// controllers that res names, and with these limits: all of it or nothing.
//
// On v2 a controller of res is enabled for everything below c, which takes that no
// process is in c itself; else the error is an [InternalProcessError]. On v1 the
// group is under what c is under; a controller that c is not under matches
// [ErrNotSupported]. Other errors are those of [Root.CreateWith].
func (c *Cgroup) CreateBelow(ctx context.Context, name string, res Resources) (*Cgroup, error) {
	path := c.path + "/" + name
	err := checkNewPath(path)
	if strings.Contains(name, "/") {
		err = &InvalidError{Field: "path", Value: name, Reason: "the name of one group has no slash"}
	}
	if err := errors.Join(err, res.Validate(), ctx.Err()); err != nil {
		return nil, err
	}
	want := res.Controllers()
	places := c.places()
	for _, ctl := range want.List() {
		if h := c.root.where[ctl]; h != nil && !h.v2 && c.node(ctl) == nil {
			return nil, &UnsupportedError{Feature: ctl.String() + " controller of " + path, Reason: c.path + " is not under it"}
		}
	}
	sub := &Cgroup{root: c.root, path: path, nodes: make([]*node, 0, len(places))}
	if uni := c.unified(); uni != nil { // first, as in Create
		err = sub.extend(uni.in, want)
	}
	for _, n := range places {
		if !n.in.v2 && err == nil {
			err = sub.extend(n.in, want)
		}
	}
	if err == nil {
		err = sub.identify()
	}
	if err != nil {
		return nil, errors.Join(err, sub.discard())
	}
	return sub.limited(ctx, res)
}
