// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/internal/life"
	"github.com/caisson-run/caisson/isolation/runtimespec"
	"github.com/caisson-run/caisson/namespaces"
)

// without are fields that a sandbox may do without: Check says that it does.
var without = []string{"controllers", "security.landlock", "root.bare"}

// elsewhere are fields that the driver sees to itself.
var elsewhere = []string{"driver", "class", "security.keyring"}

// convert makes the configuration. What the sandbox does without is missing; what
// it cannot do without is an error.
func (d *Driver) convert(c *isolation.Container) (spec *specs.Spec, missing []string, err error) {
	s := c.Spec
	caps, err := ownCapabilities()
	if err != nil {
		return nil, nil, err
	}
	network, err := c.NetworkPath()
	if err != nil {
		return nil, nil, err
	}
	spec, left, err := runtimespec.ToSpec(s, runtimespec.Config{
		Rootfs: d.rootfs(s.ID), CgroupsPath: "/" + c.GroupPath(), Capabilities: caps,
		NetworkNamespace: network,
	})
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, l := range left {
		asked := l.Field != "security.landlock" || s.Security.Landlock != isolation.On
		switch {
		case slices.Contains(elsewhere, l.Field), slices.Contains(life.Around(), l.Field):
		case slices.Contains(without, l.Field) && asked && (l.Field != "root.bare" || !s.Root.Bare):
			missing = append(missing, l.String())
		default:
			errs = append(errs, &isolation.UnsupportedError{Feature: l.Field, Reason: l.Reason})
		}
	}
	if s.Process.Terminal {
		errs = append(errs, &isolation.UnsupportedError{Feature: "process.terminal", Reason: "a runtime makes the terminal, in the container, and cannot be given the caller's"})
	}
	if len(s.Root.Layers) > 0 && s.Namespaces.Kinds().Has(namespaces.User) {
		errs = append(errs, &isolation.UnsupportedError{
			Feature: "root.layers", Reason: "in a new user namespace nobody could write to them; give a path",
		})
	}
	if err := life.MountNames(c, spec); err != nil {
		return nil, nil, err
	}
	life.Mountable(spec.Mounts)
	// Limits are the driver's. What a runtime is told of is the devices, of which
	// it makes rules of its own.
	spec.Linux.Resources = &specs.LinuxResources{Devices: spec.Linux.Resources.Devices}
	return spec, missing, errors.Join(errs...)
}

// accepts refuses what cannot be, before anything is made.
func (d *Driver) accepts(ctx context.Context, c *isolation.Container) (missing []string, err error) {
	s := c.Spec
	spec, missing, err := d.convert(c)
	if err != nil {
		return nil, err
	}
	for _, dir := range append([]string{s.Root.Path}, s.Root.Layers...) {
		if dir == "" {
			continue
		}
		if info, err := os.Stat(dir); err != nil {
			return nil, err
		} else if !info.IsDir() {
			return nil, &isolation.InvalidError{Field: "root.path", Value: dir, Reason: "not a directory"}
		}
	}
	for _, v := range s.Root.Volumes {
		if v.Source == "" {
			continue
		}
		if _, err := os.Stat(v.Source); err != nil {
			return nil, err
		}
	}
	if _, err := d.lookup(); err != nil {
		return nil, err
	}
	if spec.Process.Scheduler != nil || spec.Process.IOPriority != nil {
		return missing, d.schedules(ctx, spec.Version)
	}
	return missing, nil
}

// makeBundle makes the sandbox's directory, whole or not at all. One that is there
// is somebody else's.
func (d *Driver) makeBundle(ctx context.Context, c *isolation.Container) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s := c.Spec
	spec, _, err := d.convert(c)
	if err != nil {
		return err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.Mkdir(d.bundle(s.ID), 0o711); err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(d.bundle(s.ID), runtimespec.ConfigFile), text, 0o600)
	if err == nil && len(s.Root.Layers) > 0 {
		err = d.mount(s)
	}
	if err != nil {
		return errors.Join(err, d.removeBundle(s.ID))
	}
	return nil
}

// mount mounts the layers of a root, and memory for what is written to it.
func (d *Driver) mount(s isolation.Spec) error {
	upper := s.Root.Upper
	if upper == "" {
		upper = d.upper(s.ID)
		if err := os.Mkdir(upper, 0o700); err != nil {
			return err
		}
		options := "mode=700"
		if s.Root.Size != 0 {
			options += fmt.Sprintf(",size=%d", s.Root.Size)
		}
		if err := sys.Mount("tmpfs", upper, "tmpfs", options); err != nil {
			return err
		}
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(upper, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(d.rootfs(s.ID), 0o755); err != nil {
		return err
	}
	return sys.MountOverlay(d.rootfs(s.ID), s.Root.Layers, filepath.Join(upper, "upper"), filepath.Join(upper, "work"))
}

// removeBundle removes the sandbox's directory. Only the runtime's state is removed
// with what is in it: a mount that could not be taken away is not to be emptied.
func (d *Driver) removeBundle(id string) error {
	for _, dir := range []string{d.rootfs(id), d.upper(id)} {
		if err := sys.Unmount(dir); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(d.state(id)); err != nil {
		return err
	}
	for _, name := range []string{
		d.rootfs(id), d.upper(id), d.log(id), d.pid(id), filepath.Join(d.bundle(id), runtimespec.ConfigFile), d.bundle(id),
	} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// ownCapabilities are those that this process can give away.
func ownCapabilities() ([]string, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	var set uint64
	for line := range strings.Lines(string(text)) {
		if hex, ok := strings.CutPrefix(line, "CapPrm:"); ok {
			if _, err := fmt.Sscanf(strings.TrimSpace(hex), "%x", &set); err != nil {
				return nil, fmt.Errorf("/proc/self/status: %w", err)
			}
		}
	}
	names := []string{}
	for i, name := range isolation.KnownCapabilities() {
		if set>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return names, nil
}
