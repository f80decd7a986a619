// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// OpenTrigger asks the kernel to tell when the group stalls for r as t says. The
// Notifier has a descriptor of its own; closing it ends the trigger.
//
// The kernel looks ten times a window, and at once when the threshold may have
// been crossed. Without CAP_SYS_RESOURCE in the initial user namespace it takes
// only windows that are multiples of [TriggerWindowStep], looks only every two
// seconds, may be ten seconds late while the group is throttled, and may tell
// once of nothing: compare [PressureLine].Total.
//
// Returns an [InvalidError] for a trigger that no kernel takes; an
// [UnsupportedError] where [Cgroup.Pressure] does, and for a window that needs
// the capability.
//
// Linux 5.2. https://docs.kernel.org/accounting/psi.html
func (c *Cgroup) OpenTrigger(r PressureResource, t Trigger) (*Notifier, error) {
	f, err := r.file()
	if err == nil {
		err = t.Validate()
	}
	if err != nil {
		return nil, err
	}
	name := fileName(f)
	n := c.unified()
	if n == nil {
		return nil, c.noUnifiedTree(name)
	}
	file, err := n.dir.Open(name, os.O_RDWR|syscall.O_NONBLOCK)
	if err == nil {
		err = t.arm(r, file)
	}
	switch err = n.failed(err); {
	case err == nil:
		e := &Notifier{file: file, node: n}
		if n.dir.IsFake() {
			if err := e.ring(); err != nil {
				return nil, errors.Join(err, e.Close())
			}
		}
		return e, nil
	case errors.Is(err, ErrGone):
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.EOPNOTSUPP):
		err = n.whyNoPressure(name)
	}
	return nil, err
}

// OpenTrigger asks the kernel to tell when the machine stalls for res as t says.
// It is bound like [Cgroup.OpenTrigger].
func (r *Root) OpenTrigger(res PressureResource, t Trigger) (*Notifier, error) {
	_, err := res.file()
	if err == nil {
		err = t.Validate()
	}
	if err != nil {
		return nil, err
	}
	r.pressure.mu.Lock()
	file, err := r.pressure.open(res, os.O_RDWR|syscall.O_NONBLOCK)
	r.pressure.mu.Unlock()
	if err == nil {
		err = t.arm(res, file)
	} else if errors.Is(err, syscall.EPERM) {
		// psi_open of Linux 5.12 to 6.4.
		err = &UnsupportedError{Feature: t.feature(), Reason: "it needs CAP_SYS_RESOURCE", Err: err}
	}
	if err != nil {
		return nil, noMachinePressure(res, err)
	}
	n := &Notifier{file: file}
	if r.fake != nil {
		if err := n.ring(); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

func (t Trigger) feature() string { return `pressure trigger "` + t.String() + `"` }

// arm writes the trigger and closes file if that fails.
func (t Trigger) arm(r PressureResource, file *kernfs.File) error {
	// psi_write drops the last byte that it is given.
	err := file.Write(t.String() + "\x00")
	if err == nil {
		return nil
	}
	var fe *FileError
	if errors.As(err, &fe) {
		fe.Data = t.String()
	}
	if errors.Is(err, syscall.EINVAL) {
		err = t.explain(r, file, err)
	}
	_ = file.Close()
	return err
}

// explain says why the kernel does not take a valid trigger.
func (t Trigger) explain(r PressureResource, file *kernfs.File, err error) error {
	var p Pressure
	var buf [512]byte
	n, readErr := file.ReadAt(buf[:])
	switch {
	case t.Full && r == PressureCPU && readErr == nil && p.scan(buf[:n]) == nil && !p.Full.Present:
		return &UnsupportedError{Feature: t.feature(), Since: "Linux 5.13", Reason: "there is no full line for cpu", Err: err}
	case t.Window%TriggerWindowStep != 0:
		return &UnsupportedError{
			Feature: t.feature(), Err: err,
			Reason: "without CAP_SYS_RESOURCE the window must be a multiple of " + TriggerWindowStep.String(),
		}
	}
	return err
}
