// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// Exec has libcontainer start a further process. It knows no contexts: one that
// ends meanwhile ends the process when libcontainer is done.
func (d *Driver) Exec(ctx context.Context, c *isolation.Container, p isolation.Process, files []*os.File) (_ *isolation.Exec, err error) {
	b := boxOf(c)
	if err := b.in(isolation.StateRunning, noProcess); err != nil {
		return nil, err
	}
	if err := holdsFrozen(c); err != nil {
		return nil, err
	}
	spec := c.Spec.Clone()
	spec.Process = p
	plan, err := d.convert(spec)
	if err != nil {
		return nil, err
	}
	own, err := newProcess(plan.process)
	if err != nil {
		return nil, err
	}
	if b.container == nil {
		if b.container, err = libcontainer.Load(d.cfg.Root, c.Spec.ID); err != nil {
			return nil, err
		}
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
	if err := errors.Join(b.container.Run(own), done()); err != nil {
		return nil, err
	}
	pid, err := own.Pid()
	if err != nil {
		return nil, err
	}
	held, err := d.hold(pid, own)
	if err != nil {
		return nil, err
	}
	if d.root.Detached() {
		err = c.Cgroup.Add(ctx, pid)
	}
	if err = errors.Join(err, context.Cause(ctx)); err != nil {
		return nil, errors.Join(err, held.kill())
	}
	e, ended := isolation.NewExec(pid, held.signal)
	held.tell(ended)
	b.mu.Lock()
	b.execs = append(slices.DeleteFunc(b.execs, func(p *process) bool { return isClosed(p.over) && p.release() == nil }), held)
	b.mu.Unlock()
	return e, nil
}

// noGroupOOM takes memory.oom.group back while a process that shares the caller's
// memory may be in the group: on cgroup v2 libcontainer has it born in there, and a
// kill of the whole group would reach the caller.
func noGroupOOM(ctx context.Context, c *isolation.Container) (restore func() error, err error) {
	set := func(ctx context.Context, to cgroups.Switch) error {
		_, err := c.Cgroup.Update(ctx, cgroups.Resources{Memory: cgroups.Memory{OOMGroup: to}})
		return err
	}
	if c.Spec.Resources.Memory.OOMGroup != cgroups.On {
		return func() error { return nil }, nil
	}
	return func() error { return set(context.WithoutCancel(ctx), cgroups.On) }, set(ctx, cgroups.Off)
}
