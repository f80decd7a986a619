// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// Stall is the time for which work stood still, as pressure files tell it.
type Stall struct {
	Some, Full time.Duration
}

// Resource is what work can stall for.
type Resource uint8

// The resources.
const (
	CPU Resource = iota
	Memory
	IO
	numResources
)

var pressureFiles = [numResources]string{"cpu.pressure", "memory.pressure", "io.pressure"}

func isPressure(file string) bool {
	return len(file) > 9 && file[len(file)-9:] == ".pressure" && file != "cgroup.pressure"
}

// pressureKinds are the pressure files (kernel/sched/psi.c). The top's are the
// machine's.
func (t *tree) pressureKinds() []kind {
	var kinds []kind
	for r, name := range pressureFiles {
		kinds = append(kinds, kind{name: name, log: true, show: func(g *group) (string, error) {
			return g.m.pressureText(Resource(r), g.stall(Resource(r))), nil
		}, store: func(g *group, data string) error { return g.m.trigger(Resource(r), data) }})
	}
	return append(kinds, t.since(6, 1, kind{name: "cgroup.pressure", where: notTop, init: "1", store: func(g *group, data string) error {
		n, err := parseInt(strip(data), 32)
		switch {
		case err != nil:
			return err
		case n < 0 || n > 1:
			return syscall.ERANGE
		}
		if n == 0 && g.text("cgroup.pressure") == "1" {
			g.lives[numCtls]++
		}
		g.setText("cgroup.pressure", strconv.FormatInt(n, 10))
		return nil
	}})...)
}

// stall is that of g and everything below it.
func (g *group) stall(r Resource) (s Stall) {
	g.each(func(b *group) {
		s.Some += b.work.stalls[r].Some
		s.Full += b.work.stalls[r].Full
	})
	return s
}

func (m *Machine) pressureText(r Resource, s Stall) string {
	text := fmt.Sprintf("some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", s.Some.Microseconds())
	if r != CPU || !m.cfg.Kernel.before(5, 13) {
		text += fmt.Sprintf("full avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", s.Full.Microseconds())
	}
	return text
}

// trigger is psi_write, which overwrites the last byte that it is given.
func (m *Machine) trigger(r Resource, data string) error {
	if data == "" {
		return syscall.EINVAL
	}
	var word string
	var stall, window uint64
	if n, err := fmt.Sscanf(data[:len(data)-1], "%s %d %d", &word, &stall, &window); n != 3 || err != nil {
		return syscall.EINVAL
	}
	switch {
	case word != "some" && word != "full", word == "full" && r == CPU && m.cfg.Kernel.before(5, 13):
		return syscall.EINVAL
	case window < 500000 || window > 10000000, stall == 0 || stall > window:
		return syscall.EINVAL
	case !m.cfg.Privileged && window%2000000 != 0:
		return syscall.EINVAL
	}
	return nil
}

// AddStall makes the work of the group at path have stalled for so much more,
// and fires the triggers of the group and those above it. The empty path is the
// machine.
func (m *Machine) AddStall(path string, r Resource, s Stall) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.find(path, func(t *tree) bool { return t.v2 })
	if g == nil {
		return fmt.Errorf("cgroup %s: %w", path, syscall.ENOENT)
	}
	g.work.stalls[r].Some += s.Some
	g.work.stalls[r].Full += s.Full
	g.up(func(a *group) { a.announce(pressureFiles[r]) })
	return nil
}

// Pressure implements [kernfs.FakeMachine].
func (m *Machine) Pressure() kernfs.FakeDir { return m.psi }

// machinePressure is /proc/pressure: the top's pressure files by other names.
type machinePressure struct{ m *Machine }

func (p *machinePressure) Open(name string, flag int) (kernfs.FakeFile, error) {
	for _, t := range p.m.trees {
		if t.v2 {
			return (&dir{t.top}).Open(name+".pressure", flag)
		}
	}
	return nil, os.ErrNotExist
}

func (*machinePressure) ID() kernfs.ID                          { return kernfs.ID{} }
func (*machinePressure) Version() int                           { return 0 }
func (*machinePressure) Gone() bool                             { return false }
func (*machinePressure) OpenDir(string) (kernfs.FakeDir, error) { return nil, syscall.ENOENT }
func (*machinePressure) Mkdir(string) error                     { return syscall.EPERM }
func (*machinePressure) Rmdir(string) error                     { return syscall.EPERM }
func (*machinePressure) Has(name string) (bool, error)          { return strings.HasPrefix(name, "cpu"), nil }
func (*machinePressure) Dirs() []string                         { return nil }
func (*machinePressure) SetXattr(string, string) error          { return syscall.EOPNOTSUPP }
func (*machinePressure) RemoveXattr(string) error               { return syscall.EOPNOTSUPP }
func (*machinePressure) Xattrs() map[string]string              { return nil }
