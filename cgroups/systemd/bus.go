// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/godbus/dbus/v5"
)

// An Error is systemd's refusal to do something with a unit.
type Error struct {
	Op     string // "start", "stop", "set properties of", ...
	Unit   string
	Result string // of the job, where it was a job that failed: "failed", "timeout", ...
	Err    error  // the answer on the bus, where it was a call that failed
}

// Error says what was asked and what came back.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("systemd: %s %s: the job ended as %q; see systemctl status %s", e.Op, e.Unit, e.Result, e.Unit)
	}
	return fmt.Sprintf("systemd: %s %s: %v", e.Op, e.Unit, e.Err)
}

// Unwrap gives the answer on the bus.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is [os.ErrClosed] and the connection was closed:
// which of its two words the bus has for that is a matter of chance.
func (e *Error) Is(target error) bool {
	return target == os.ErrClosed && (errors.Is(e.Err, dbus.ErrClosed) || errors.Is(e.Err, net.ErrClosed))
}

const (
	service    = "org.freedesktop.systemd1"
	manager    = service + ".Manager"
	noSuch     = service + ".NoSuchUnit"
	running    = "/run/systemd/system"
	getOne     = "org.freedesktop.DBus.Properties.Get"
	jobRemoved = "JobRemoved"
)

// bus is a connection to systemd over the system bus. systemd's own socket would
// need no bus daemon, but if systemd is busy while a client arrives there, it
// reads the first message along with the end of the authentication, and sees it
// only when another one follows.
type bus struct{ conn *dbus.Conn }

// connect asks systemd for the signals of jobs, too.
func connect(ctx context.Context) (*bus, error) {
	if _, err := os.Stat(running); errors.Is(err, fs.ErrNotExist) {
		return nil, &cgroups.UnsupportedError{Feature: "systemd", Reason: "it is not this machine's init: there is no " + running}
	}
	// godbus takes the context of the whole connection, which is to outlive ctx.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	keep := context.AfterFunc(ctx, end)
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(life))
	if !keep() {
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("systemd: connect to the system bus: %w", err)
	}
	b := &bus{conn}
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(manager), dbus.WithMatchMember(jobRemoved))
	if err == nil {
		err = b.call(ctx, manager+".Subscribe").Err
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("systemd: subscribe to its jobs: %w", err), conn.Close())
	}
	return b, nil
}

func (b *bus) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return b.conn.Object(service, "/org/freedesktop/systemd1").CallWithContext(ctx, method, 0, args...)
}

// job calls a method that queues a job for the unit, and waits for its end. It
// reports whether the job was queued.
func (b *bus) job(ctx context.Context, op, unit, method string, args ...any) (queued bool, err error) {
	// For this job only: godbus keeps a goroutine for each signal that nobody reads.
	signals := make(chan *dbus.Signal, 64)
	b.conn.Signal(signals)
	defer b.conn.RemoveSignal(signals)
	var job dbus.ObjectPath
	if err := b.call(ctx, method, args...).Store(&job); err != nil {
		return false, &Error{Op: op, Unit: unit, Err: err}
	}
	for {
		select {
		case <-ctx.Done():
			return true, &Error{Op: op, Unit: unit, Err: ctx.Err()}
		case s, open := <-signals:
			if !open {
				return true, &Error{Op: op, Unit: unit, Err: dbus.ErrClosed}
			}
			var id uint32
			var path dbus.ObjectPath
			var name, result string
			if s.Name != manager+"."+jobRemoved || dbus.Store(s.Body, &id, &path, &name, &result) != nil || path != job {
				continue
			}
			if result != "done" {
				return true, &Error{Op: op, Unit: unit, Result: result}
			}
			return true, nil
		}
	}
}

// property reads one property of the unit at path.
func (b *bus) property(ctx context.Context, path dbus.ObjectPath, kind, name string, to any) error {
	var v dbus.Variant
	err := b.conn.Object(service, path).CallWithContext(ctx, getOne, 0, service+"."+kind, name).Store(&v)
	if err != nil {
		return err
	}
	return v.Store(to)
}
