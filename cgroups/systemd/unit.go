// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/godbus/dbus/v5"
)

// Config says which unit to start.
type Config struct {
	// Name is the unit's, ending in ".service".
	Name string

	// Slice is the slice that the unit is in; "" is system.slice. The unit
	// competes with its neighbours there.
	Slice string

	// Resources are limits of the whole unit, set as it starts, as in
	// [Unit.Update]. Its number of tasks is unlimited if nothing else is said,
	// not systemd's DefaultTasksMax.
	Resources cgroups.Resources
}

// A Unit is a unit of systemd's, by the connection to systemd that it holds.
type Unit struct {
	bus       *bus
	name      string
	group     string
	delegated bool
}

// A NotHeldError says that systemd accepted a limit and the kernel does not
// have it: systemd logs what the kernel refuses, and reports success.
type NotHeldError struct {
	Unit    string
	Changes []cgroups.Change // what would still have to be written
}

// Error names the first of them.
func (e *NotHeldError) Error() string {
	return fmt.Sprintf("systemd accepted the limits of %s, but the kernel does not have them; missing first of %d: %v",
		e.Unit, len(e.Changes), e.Changes[0])
}

// holder is the child group for the process that keeps the unit alive: v2 wants
// no process in a group that passes controllers on.
const holder = "holder"

// Delegate starts a unit whose group is the caller's to fill, or finds the one
// that an earlier process of the caller's started by this name; of that one the
// limits are updated. It lives until [Unit.Stop], whoever of the caller's
// processes ends: "sleep infinity" runs in it, which systemd looks after. Out of
// memory in a group below does not end it.
//
// The error matches [cgroups.ErrInvalid] for a name that is none or resources
// that systemd would not set exactly, [cgroups.ErrNotSupported] where systemd is
// not init, cgroups are not v2, or for a knob without a property. An [Error] of
// a unit that runs already tells that this name is somebody else's.
func Delegate(ctx context.Context, cfg Config) (*Unit, error) {
	if err := checkName("name", cfg.Name, ".service"); err != nil {
		return nil, err
	}
	slice := cmp.Or(cfg.Slice, "system.slice")
	if err := checkName("slice", slice, ".slice"); err != nil {
		return nil, err
	}
	limits, err := validated(cfg.Resources)
	if err != nil {
		return nil, err
	}
	sleep, err := exec.LookPath("sleep")
	if err == nil {
		sleep, err = filepath.Abs(sleep)
	}
	if err != nil {
		return nil, err
	}
	root, err := cgroups.Open("")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if root.Mode() != cgroups.Unified {
		return nil, &cgroups.UnsupportedError{
			Feature: "delegation by systemd", Reason: "systemd delegates v2 only, and this host is " + root.Mode().String(),
		}
	}
	b, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	u := &Unit{bus: b, name: cfg.Name, delegated: true}
	started, err := u.start(ctx, slice, sleep, limits)
	if err == nil {
		err = u.settle(ctx, root)
	}
	if err == nil {
		err = u.Update(ctx, cfg.Resources)
	}
	if err != nil {
		if started {
			err = errors.Join(err, u.Stop(context.WithoutCancel(ctx)))
		}
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

func validated(r cgroups.Resources) ([]property, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return properties(r)
}

// start starts the unit unless it runs, and reports whether it did.
func (u *Unit) start(ctx context.Context, slice, sleep string, limits []property) (started bool, err error) {
	state, path, err := u.state(ctx)
	if err != nil {
		return false, err
	}
	if state == "active" {
		var delegate, transient bool
		err := errors.Join(
			u.bus.property(ctx, path, "Service", "Delegate", &delegate),
			u.bus.property(ctx, path, "Unit", "Transient", &transient),
		)
		if err == nil && (!delegate || !transient) {
			err = errors.New("it runs already, and is not a delegated transient unit")
		}
		if err != nil {
			return false, &Error{Op: "take", Unit: u.name, Err: err}
		}
		return false, nil
	}
	type command struct {
		Path   string
		Args   []string
		Ignore bool
	}
	list := []property{
		{"Description", dbus.MakeVariant("Sandboxes")},
		{"Slice", dbus.MakeVariant(slice)},
		{"Type", dbus.MakeVariant("exec")},
		{"ExecStart", dbus.MakeVariant([]command{{sleep, []string{sleep, "infinity"}, false}})},
		{"Delegate", dbus.MakeVariant(true)},
		{"OOMPolicy", dbus.MakeVariant("continue")},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
		{"TasksMax", dbus.MakeVariant(unlimited)},
	}
	list = append(list, limits...) // of two for one name the last counts
	type auxiliary struct {
		Name       string
		Properties []property
	}
	return u.bus.job(ctx, "start", u.name, manager+".StartTransientUnit", u.name, "fail", list, []auxiliary{})
}

// state is the unit's ActiveState, "" if systemd does not know it.
func (u *Unit) state(ctx context.Context) (state string, path dbus.ObjectPath, err error) {
	err = u.bus.call(ctx, manager+".GetUnit", u.name).Store(&path)
	if e := (dbus.Error{}); errors.As(err, &e) && e.Name == noSuch {
		return "", "", nil
	}
	if err == nil {
		err = u.bus.property(ctx, path, "Unit", "ActiveState", &state)
	}
	if err != nil {
		return "", "", &Error{Op: "look up", Unit: u.name, Err: err}
	}
	return state, path, nil
}

// locate finds the unit's group.
func (u *Unit) locate(ctx context.Context) (path dbus.ObjectPath, err error) {
	state, path, err := u.state(ctx)
	if err != nil {
		return "", err
	}
	kind := "Service"
	switch filepath.Ext(u.name) {
	case ".scope":
		kind = "Scope"
	case ".slice":
		kind = "Slice"
	}
	var group string
	if path != "" {
		err = u.bus.property(ctx, path, kind, "ControlGroup", &group)
	}
	if err == nil && group == "" {
		err = fmt.Errorf("it has no group, being %q: %w", cmp.Or(state, "unknown"), fs.ErrNotExist)
	}
	if err != nil {
		return "", &Error{Op: "find the group of", Unit: u.name, Err: err}
	}
	u.group = strings.TrimPrefix(group, "/")
	return path, nil
}

// settle moves the unit's own process into a child group.
func (u *Unit) settle(ctx context.Context, root *cgroups.Root) error {
	path, err := u.locate(ctx)
	if err != nil {
		return err
	}
	var pid uint32
	if err := u.bus.property(ctx, path, "Service", "MainPID", &pid); err != nil {
		return &Error{Op: "find the process of", Unit: u.name, Err: err}
	}
	if pid == 0 {
		return &Error{Op: "find the process of", Unit: u.name, Err: fs.ErrNotExist}
	}
	// On v2 freezing needs no controller, so that this enables none.
	at := u.group + "/" + holder
	g, err := root.Create(at, cgroups.ControllersOf(cgroups.ControllerFreezer))
	if errors.Is(err, fs.ErrExist) {
		g, err = root.Open(at)
	}
	if err != nil {
		return err
	}
	return errors.Join(g.Add(ctx, int(pid)), g.Close())
}

// Open takes a service, scope or slice that somebody else started and that has
// a group. The error matches [os.ErrNotExist] if it has none.
func Open(ctx context.Context, name string) (*Unit, error) {
	if err := checkName("name", name, ".service", ".scope", ".slice"); err != nil {
		return nil, err
	}
	b, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	u := &Unit{bus: b, name: name}
	if _, err := u.locate(ctx); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

// Name is the unit's.
func (u *Unit) Name() string { return u.name }

// Parent is the unit's group relative to the tops of the trees, for
// isolation.Config.Parent if the unit is from [Delegate].
func (u *Unit) Parent() string { return u.group }

// Update changes limits of the whole unit through systemd, all that r names or
// none, until the unit stops or the machine does. They outlast a daemon-reload.
// It then compares with the kernel's files.
//
// The error matches [cgroups.ErrNotSupported] for a knob that systemd has no
// property for, [cgroups.ErrInvalid] for a value that the kernel has not or that
// systemd would round. An [Error] is systemd's refusal, after which nothing has
// changed, and a [NotHeldError] the kernel's, which systemd only logs.
func (u *Unit) Update(ctx context.Context, r cgroups.Resources) error {
	list, err := validated(r)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := u.bus.call(ctx, manager+".SetUnitProperties", u.name, true, list).Err; err != nil {
		return &Error{Op: "set properties of", Unit: u.name, Err: err}
	}
	root, err := cgroups.Open("")
	if err != nil {
		return err
	}
	defer root.Close()
	g, err := root.Open(u.group)
	if err != nil {
		return err
	}
	defer g.Close()
	plan, err := g.Plan(r)
	if err == nil && len(plan.Changes) > 0 {
		err = &NotHeldError{Unit: u.name, Changes: plan.Changes}
	}
	return err
}

// Stop ends every process in a unit of [Delegate]'s, and removes it and all
// groups below. It returns when systemd is done, and is not an error for a unit
// that is gone. A unit of somebody else's is refused.
func (u *Unit) Stop(ctx context.Context) error {
	if !u.delegated {
		return &cgroups.UnsupportedError{Feature: "stop of " + u.name, Reason: "Delegate did not start it"}
	}
	_, err := u.bus.job(ctx, "stop", u.name, manager+".StopUnit", u.name, "replace")
	if e := (dbus.Error{}); errors.As(err, &e) && e.Name == noSuch {
		return nil
	}
	return err
}

// Close closes the connection. The unit lives on. What is called later, and has
// to ask systemd, fails with [os.ErrClosed].
func (u *Unit) Close() error { return u.bus.conn.Close() }
