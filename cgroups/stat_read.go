// SPDX-License-Identifier: Apache-2.0

package cgroups

import "github.com/caisson-run/caisson/internal/kernfs"

// Stat fills s with what the group and its descendants use: the figures of all
// controllers the group is under, and the three pressures. What s held before
// is gone.
//
// Each file is read with one pread(2) on a descriptor that the group holds from
// the first Stat until [Cgroup.Close], some twenty of them. The files are read
// one after the other, so figures from different files are some microseconds
// apart. After the first call nothing is allocated, unless s meets more devices
// than before. Once the root's groups hold half of the descriptors that the
// process may have (RLIMIT_NOFILE), the files of further groups are opened for
// each call.
//
// Returns an error that matches [ErrGone] if the group was removed, and a
// [FileError] if a file cannot be read or understood; s is zero then.
func (c *Cgroup) Stat(s *Stats) error { return c.stat(s, measured, true) }

// StatOf is [Cgroup.Stat] for some controllers only, without pressure. It reads
// and holds only their files: memory.stat alone costs as much as eight others.
// Controllers that the group is not under, and those without figures, are left
// out; s.Has tells.
func (c *Cgroup) StatOf(s *Stats, want Controllers) error { return c.stat(s, want, false) }

func (c *Cgroup) stat(s *Stats, want Controllers, pressure bool) error {
	s.reset()
	// v1 has the figures of cpu in two controllers.
	if cpu := ControllersOf(ControllerCPU, ControllerCPUAcct); want&cpu != 0 {
		want |= cpu
	}
	v := c.view()
	buf := c.root.scratch.get()
	defer c.root.scratch.put(buf)
	h := &c.stats
	h.begin()
	defer h.end(&c.root.budget)

	err := h.scan(s, &v, want, buf)
	if n := v.at[ControllerHugeTLB]; err == nil && n != nil && want.Has(ControllerHugeTLB) {
		err = h.hugeTLB(s, n, &c.root.pageSizes, buf)
	}
	if err == nil && pressure && v.uni != nil {
		err = h.scanPressures(s, v.uni, buf)
	}
	if err != nil {
		s.reset()
		return err
	}
	for ctl, n := range v.at {
		if n != nil && (want & measured).Has(Controller(ctl)) {
			s.Has |= ControllersOf(Controller(ctl))
		}
	}
	s.IO.sum()
	return nil
}

// next reads the first of the files from f on that is there, among those of the
// use and of these controllers; numStatFiles is none.
func (h *held) next(f statFile, use uint8, of Controllers, v *view, buf *[]byte) (statFile, []byte, *kernfs.File, error) {
	for ; f < numStatFiles; f++ {
		if statFiles[f].use&use == 0 || !of.Has(statFiles[f].part) {
			continue
		}
		if text, file, err := h.text(f, v, buf); file != nil || err != nil {
			return f, text, file, err
		}
	}
	return f, nil, nil, nil
}

func (h *held) scan(s *Stats, v *view, want Controllers, buf *[]byte) error {
	for f := statFile(0); ; f++ {
		at, text, file, err := h.next(f, inStat, want, v, buf)
		if err != nil || file == nil {
			return err
		}
		if err := s.scan(at, text); err != nil {
			return notUnderstood(file, text, err)
		}
		f = at
	}
}

func (h *held) scanPressures(s *Stats, n *node, buf *[]byte) error {
	if _, err := h.pressure(filePressureCPU, n, &s.CPUPressure, buf); err != nil {
		return err
	}
	if _, err := h.pressure(filePressureMemory, n, &s.MemoryPressure, buf); err != nil {
		return err
	}
	_, err := h.pressure(filePressureIO, n, &s.IOPressure, buf)
	return err
}

// Events fills e with the counters behind the group's events: memory.events,
// memory.swap.events, pids.events and cgroup.events. What e held before is
// gone. It allocates nothing after the first call.
//
// Returns an error that matches [ErrGone] if the group was removed; e is zero
// then.
func (c *Cgroup) Events(e *Events) error {
	*e = Events{}
	v := c.view()
	buf := c.root.scratch.get()
	defer c.root.scratch.put(buf)
	h := &c.stats
	h.begin()
	defer h.end(&c.root.budget)
	if err := h.scanEvents(e, &v, buf); err != nil {
		*e = Events{}
		return err
	}
	return nil
}

func (h *held) scanEvents(e *Events, v *view, buf *[]byte) error {
	for f := statFile(0); ; f++ {
		at, text, file, err := h.next(f, inEvents, ^Controllers(0), v, buf)
		if err != nil || file == nil {
			return err
		}
		if err := e.scan(at, text); err != nil {
			return notUnderstood(file, text, err)
		}
		f = at
	}
}
