// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"errors"
	"os"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
)

// Exec has libcontainer start a further process. It knows no contexts: one that
// ends meanwhile ends the process when libcontainer is done.
func (d *Driver) Exec(ctx context.Context, c *isolation.Container, p isolation.Process, files []*os.File) (_ *isolation.Exec, err error) {
	b := life.Of(c)
	if err := b.Running(); err != nil {
		return nil, err
	}
	if err := b.Thawed(c); err != nil {
		return nil, err
	}
	spec := c.Spec.Clone()
	spec.Process = p
	plan, err := convertSpec(spec, c)
	if err != nil {
		return nil, err
	}
	own, err := newProcess(plan.process)
	if err != nil {
		return nil, err
	}
	lc := made(c)
	if lc == nil {
		if lc, err = libcontainer.Load(d.cfg.Root, c.Spec.ID); err != nil {
			return nil, err
		}
		b.Made = lc
	}
	restore, err := noGroupOOM(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	done, err := descriptors(own, files)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(lc.Run(own), done()); err != nil {
		return nil, err
	}
	held, err := d.hold(own)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(joinDetached(ctx, c, held.PID), context.Cause(ctx)); err != nil {
		return nil, errors.Join(err, held.Kill())
	}
	e, ended := isolation.NewExec(held.PID, held.Signal)
	held.Tell(ended)
	b.Add(held)
	return e, nil
}

// noGroupOOM takes memory.oom.group back while a process that shares the caller's
// memory may be in the group: on cgroup v2 libcontainer has it born in there, and a
// kill of the whole group would reach the caller.
func noGroupOOM(ctx context.Context, c *isolation.Container) (restore func() error, err error) {
	set := func(ctx context.Context, to cgroups.Switch) error {
		_, err := c.Cgroup().Update(ctx, cgroups.Resources{Memory: cgroups.Memory{OOMGroup: to}})
		return err
	}
	if c.Spec.Resources.Memory.OOMGroup != cgroups.On {
		return func() error { return nil }, nil
	}
	return func() error { return set(context.WithoutCancel(ctx), cgroups.On) }, set(ctx, cgroups.Off)
}
