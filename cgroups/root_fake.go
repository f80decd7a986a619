// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"os"
	"slices"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// OpenFake is [Open] on a machine that is not the kernel's. It serves package
// cgroupstest, which is the way to such a Root for everybody else.
func OpenFake(m kernfs.FakeMachine) (*Root, error) {
	r := &Root{fake: m}
	r.budget.open()
	r.pageSizes.once.Do(func() { r.pageSizes.list = slices.Clone(m.HugePages()) })
	r.pressure.dir = kernfs.Fake(m.Pressure(), procPressure)
	legacy, mounted := false, false
	for _, t := range m.Trees() {
		h := &hierarchy{v2: t.V2, dir: kernfs.Fake(t.Top, t.Path), root: "/", detached: t.Detached}
		for _, name := range t.Controllers {
			if c, known := parseController(name); known {
				h.controllers |= ControllersOf(c)
			}
		}
		legacy = legacy || !t.V2
		mounted = mounted || t.V2 && !t.Detached
		if err := r.add(h); err != nil {
			_ = r.Close()
			return nil, err
		}
	}
	switch {
	case !legacy:
		r.mode = Unified
	case mounted:
		r.mode = Hybrid
	default:
		r.mode = Legacy
		if r.unified == nil {
			r.noUnified = &UnsupportedError{Feature: "unified cgroup tree", Reason: "this fake has none"}
		}
	}
	return r, nil
}

// memberships are the groups that a process is in, as /proc/PID/cgroup has them.
func (r *Root) memberships(pid string) ([]membership, error) {
	if r.fake == nil {
		return memberships(pid)
	}
	text, err := r.fake.Memberships(pid)
	if err != nil {
		return nil, &FileError{Op: "open", Path: "/proc/" + pid + "/cgroup", Err: err}
	}
	return parseMemberships([]byte(text))
}

// process describes a process, as far as it is known.
func (r *Root) process(pid int) Process {
	if r.fake == nil {
		return process(pid)
	}
	p := Process{PID: pid}
	p.Name, p.State = r.fake.Process(pid)
	return p
}

// A victim is a process that is held, so that its number stays its own.
type victim interface {
	Kill() error
	Release() error
}

func (r *Root) hold(pid int) (victim, error) {
	if r.fake != nil {
		return fakeVictim{r.fake, pid}, nil
	}
	return os.FindProcess(pid)
}

// fakeVictim is a process of a fake, which uses no number twice.
type fakeVictim struct {
	in  kernfs.FakeMachine
	pid int
}

func (v fakeVictim) Kill() error  { return v.in.Kill(v.pid) }
func (fakeVictim) Release() error { return nil }
