// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/parse"
)

const procPressure = "/proc/pressure"

// Pressure fills p with the pressure on the group and its descendants. It comes
// from the unified tree, so it is there in every mode, and counts what v1
// controllers cause too. What p held before is gone. It allocates nothing after
// the first call.
//
// To read is to have the kernel add up what has been since the last reading, by
// whomever, in whole ticks of 1 to 10 ms: who reads more often than that takes from
// Total what nobody sees any more. (collect_percpu_times in kernel/sched/psi.c.)
//
// Returns an [UnsupportedError] if the group is not in the unified tree, if the
// kernel does not account pressure, or if cgroup.pressure switches it off for
// this group; an error that matches [ErrGone] if the group was removed.
//
// Linux 4.20. https://docs.kernel.org/accounting/psi.html
func (c *Cgroup) Pressure(r PressureResource, p *Pressure) error {
	*p = Pressure{}
	f, err := r.file()
	if err != nil {
		return err
	}
	n := c.unified()
	if n == nil {
		return c.noUnifiedTree(fileName(f))
	}
	buf := c.root.scratch.get()
	defer c.root.scratch.put(buf)
	h := &c.stats
	h.begin()
	defer h.end(&c.root.budget)
	ok, err := h.pressure(f, n, p, buf)
	if err == nil && !ok {
		err = n.whyNoPressure(fileName(f))
	}
	return err
}

// file is the group's file with the pressure for r.
func (r PressureResource) file() (statFile, error) {
	if r < PressureCPU || r > PressureIO {
		return 0, &InvalidError{Field: "pressure resource", Value: r.String(), Reason: "not cpu, memory or io"}
	}
	return filePressureCPU + statFile(r-PressureCPU), nil
}

// pressure reads file f. ok is false if the kernel has no such figures. The
// caller holds mu for reading.
func (h *held) pressure(f statFile, n *node, p *Pressure, buf *[]byte) (ok bool, err error) {
	file, err := h.file(f, n)
	if err != nil || file == nil {
		return false, err
	}
	text, err := read(file, buf)
	switch {
	case err == nil:
		if err := p.scan(text); err != nil {
			return false, notUnderstood(file, text, err)
		}
		return true, nil
	case errors.Is(err, syscall.EOPNOTSUPP): // psi=0
		h.drop(f, false)
		return false, nil
	case errors.Is(err, syscall.ENODEV):
		// The file of a group that lives is only hidden, by cgroup.pressure.
		if err = n.failed(err); errors.Is(err, syscall.ENODEV) && !errors.Is(err, ErrGone) {
			h.drop(f, true)
			return false, nil
		}
	}
	return false, err
}

// pressureOff reports whether cgroup.pressure hides the group's pressure.
func (n *node) pressureOff() bool {
	var buf [8]byte
	b, err := n.dir.ReadFile("cgroup.pressure", buf[:])
	return err == nil && string(trim(b)) == "0"
}

func (n *node) whyNoPressure(name string) error {
	e := &UnsupportedError{Feature: name, Reason: "cgroup.pressure is 0 in " + n.dir.Path()}
	if !n.pressureOff() {
		e.Since, e.Reason = "Linux 4.20", "the kernel does not account pressure: it is built without CONFIG_PSI or booted without psi=1"
	}
	return e
}

func (c *Cgroup) noUnifiedTree(feature string) error {
	e := &UnsupportedError{Feature: feature, Reason: "the group is not in the unified tree"}
	if c.foreign != nil {
		e.Reason = c.foreign.unified
	}
	if c.root.unified == nil {
		e.Reason, e.Err = "there is no unified tree", c.root.noUnified
	}
	return e
}

// machinePressure holds the files of /proc/pressure.
type machinePressure struct {
	mu    sync.Mutex
	dir   *kernfs.Dir
	files [3]*kernfs.File
	done  bool
}

// Pressure fills p with the pressure on the whole machine, from /proc/pressure.
// What p held before is gone. It allocates nothing after the first call.
//
// Returns an [UnsupportedError] if the kernel does not account pressure.
func (r *Root) Pressure(res PressureResource, p *Pressure) error {
	*p = Pressure{}
	f, err := res.file()
	if err != nil {
		return err
	}
	buf := r.scratch.get()
	defer r.scratch.put(buf)
	m := &r.pressure
	m.mu.Lock()
	defer m.mu.Unlock()
	file := m.files[f-filePressureCPU]
	if file == nil {
		if file, err = m.open(res, os.O_RDONLY); err != nil {
			return err
		}
		m.files[f-filePressureCPU] = file
	}
	text, err := read(file, buf)
	if err != nil {
		return noMachinePressure(res, err)
	}
	if err := p.scan(text); err != nil {
		return notUnderstood(file, text, err)
	}
	return nil
}

func (m *machinePressure) open(res PressureResource, flag int) (*kernfs.File, error) {
	if m.done {
		return nil, &FileError{Op: "open", Path: procPressure + "/" + res.String(), Err: os.ErrClosed}
	}
	if m.dir == nil {
		dir, err := kernfs.OpenDir(procPressure)
		if err != nil {
			return nil, noMachinePressure(res, err)
		}
		m.dir = dir
	}
	file, err := m.dir.Open(res.String(), flag)
	if err != nil {
		return nil, noMachinePressure(res, err)
	}
	return file, nil
}

func noMachinePressure(res PressureResource, err error) error {
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	return &UnsupportedError{
		Feature: procPressure + "/" + res.String(), Since: "Linux 4.20",
		Reason: "the kernel does not account pressure: it is built without CONFIG_PSI or booted without psi=1",
		Err:    err,
	}
}

func (m *machinePressure) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = true
	errs := []error{m.dir.Close()}
	m.dir = nil
	for i, f := range m.files {
		errs = append(errs, f.Close())
		m.files[i] = nil
	}
	return errors.Join(errs...)
}

// scan scans a pressure file: lines such as
// "some avg10=0.12 avg60=0.00 avg300=0.00 total=1234", total in microseconds.
func (p *Pressure) scan(text []byte) error {
	for len(text) > 0 {
		var line []byte
		line, text = parse.Line(text)
		kind, line := parse.Field(line)
		var err error
		switch string(kind) {
		case "some":
			err = p.Some.scan(line)
		case "full":
			err = p.Full.scan(line)
		}
		if err != nil {
			return err
		}
	}
	if p.IsZero() {
		return fmt.Errorf("neither a some nor a full line")
	}
	return nil
}

func (l *PressureLine) scan(text []byte) error {
	total := false
	for {
		var word []byte
		if word, text = parse.Field(text); len(word) == 0 {
			break
		}
		key, value, _ := parse.Assignment(word)
		ok := true
		switch string(key) {
		case "avg10":
			l.Avg10, ok = parse.Decimal(value)
		case "avg60":
			l.Avg60, ok = parse.Decimal(value)
		case "avg300":
			l.Avg300, ok = parse.Decimal(value)
		case "total":
			var n uint64
			if n, ok = parse.Uint(value); n > math.MaxInt64/uint64(time.Microsecond) {
				ok = false
			}
			l.Total, total = time.Duration(n)*time.Microsecond, true
		}
		if !ok {
			return notNumber(word)
		}
	}
	if !total {
		return fmt.Errorf("no total in %.64q", text)
	}
	l.Present = true
	return nil
}
