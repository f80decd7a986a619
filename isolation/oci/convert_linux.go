// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
	"github.com/caisson-run/caisson/isolation/runtimespec"
)

// blueprint is a spec in libcontainer's words.
type blueprint struct {
	config  *configs.Config
	process *specs.Process
	missing []string // what was asked for with leave to do without
}

// convert says what libcontainer is to make of a spec, or what it cannot do.
func convert(c *isolation.Container) (*blueprint, error) { return convertSpec(c.Spec, c) }

func convertSpec(s isolation.Spec, c *isolation.Container) (*blueprint, error) {
	network, err := c.NetworkPath()
	if err != nil {
		return nil, err
	}
	spec, left, err := runtimespec.ToSpec(s, runtimespec.Config{CgroupsPath: "/" + c.GroupPath(), NetworkNamespace: network})
	if err != nil {
		return nil, err
	}
	if err := life.MountNames(c, spec); err != nil {
		return nil, err
	}
	life.Mountable(spec.Mounts)
	b := &blueprint{process: spec.Process}
	mapIDs(s, spec)
	if err := b.lacks(s, left); err != nil {
		return nil, err
	}
	if spec.Linux.Seccomp != nil && !seccomp.Enabled {
		const reason = "libcontainer was built without the tag seccomp"
		if s.Security.Seccomp == isolation.On {
			return nil, &isolation.UnsupportedError{Feature: "security.seccomp", Reason: reason}
		}
		b.missing = append(b.missing, "security.seccomp: "+reason)
		spec.Linux.Seccomp = nil
	}
	b.config, err = specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: s.ID, Spec: spec, NoNewKeyring: s.Security.Keyring == isolation.Off,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", isolation.ErrInvalid, err)
	}
	// The limits are written by package cgroups. Only the devices are
	// libcontainer's, which adds those that every container has.
	b.config.Cgroups.Resources = &cgroups.Resources{Devices: b.config.Cgroups.Resources.Devices}
	return b, nil
}

// mapIDs has volumes mounted with the ids of the sandbox, and what is mounted below
// them too: libcontainer knows that since release 1.2 of runc.
func mapIDs(s isolation.Spec, spec *specs.Spec) {
	for _, v := range s.Root.Volumes {
		for i := range spec.Mounts {
			if m := &spec.Mounts[i]; v.IDMapped && m.Destination == v.Target {
				m.Options = append(m.Options, "ridmap")
			}
		}
	}
}

// lacks is an error of all that was asked for and libcontainer does not do. What
// is only by default it notes.
func (b *blueprint) lacks(s isolation.Spec, left []runtimespec.Leftover) error {
	var errs []error
	for _, l := range left {
		if slices.Contains(life.Around(), l.Field) {
			continue
		}
		switch l.Field {
		case "driver", "class", "controllers", "security.keyring", "root.volumes.idMapped": // seen to here
			continue
		case "security.landlock":
			if s.Security.Landlock != isolation.On {
				b.missing = append(b.missing, l.Field+": "+l.Reason)
				continue
			}
		case "root.bare":
			if !s.Root.Bare {
				b.missing = append(b.missing, l.Reason)
				continue
			}
		}
		errs = append(errs, &isolation.UnsupportedError{Feature: l.Field, Reason: l.Reason})
	}
	if slices.ContainsFunc(s.Root.Volumes, func(v isolation.Volume) bool { return v.IDMapped }) && !launch.HasMountSetattr() {
		errs = append(errs, &isolation.UnsupportedError{
			Feature: "root.volumes.idMapped", Since: "Linux 5.12", Reason: "this kernel has no mount_setattr",
		})
	}
	if s.Process.Terminal {
		errs = append(errs, &isolation.UnsupportedError{
			Feature: "process.terminal", Reason: "libcontainer makes the terminal, in the container, and cannot be given the caller's",
		})
	}
	return errors.Join(errs...)
}

// newProcess is a process as libcontainer starts it.
func newProcess(p *specs.Process) (*libcontainer.Process, error) {
	out := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, UID: int(p.User.UID), GID: int(p.User.GID),
		NoNewPrivileges: &p.NoNewPrivileges, Scheduler: p.Scheduler, IOPriority: p.IOPriority,
		Capabilities: &configs.Capabilities{
			Bounding: p.Capabilities.Bounding, Effective: p.Capabilities.Effective, Permitted: p.Capabilities.Permitted,
		},
	}
	for _, g := range p.User.AdditionalGids {
		out.AdditionalGroups = append(out.AdditionalGroups, int(g))
	}
	for _, r := range p.Rlimits {
		n, ok := launch.Rlimits[strings.ToLower(strings.TrimPrefix(r.Type, "RLIMIT_"))]
		if !ok {
			return nil, &isolation.UnsupportedError{Feature: "process.rlimits", Reason: "libcontainer has no " + r.Type}
		}
		out.Rlimits = append(out.Rlimits, configs.Rlimit{Type: n, Soft: r.Soft, Hard: r.Hard})
	}
	return out, nil
}
