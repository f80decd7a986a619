// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"cmp"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

func (e *explainer) memory() error {
	meminfo := newMachineFile("/proc/meminfo")
	total, swap := meminfo.kilobytes("MemTotal"), meminfo.kilobytes("SwapTotal")
	both := slices.Concat(total, swap)
	if len(both) == 2 {
		both[0].Text += ", " + both[1].Text
		both[0].Limit.n += both[1].Limit.n
		both = both[:1]
	}
	for _, k := range []struct {
		knob  string
		read  amountAt
		above []Level
	}{
		{maxFile, single(limitV1, maxFile), total},
		{highFile, single(highFile, highFile), nil},
		{"memory.swap.max", single("memory.swap.max", "memory.swap.max"), swap},
		{"memory+swap", single(memswV1, memswV1), both},
	} {
		if err := e.bound(ControllerMemory, k.knob, UnitBytes, hierarchical(k.read), k.above...); err != nil {
			return err
		}
	}
	return nil
}

// hierarchical leaves out what is above a v1 group whose parents do not count
// what it uses: until Linux 5.11 that could be chosen.
func hierarchical(read amountAt) amountAt {
	first, apart := true, false
	return func(r rung) (Level, bool, error) {
		if !r.in.v2 && !first && !apart {
			text, ok, err := r.read(useHierarchyV1)
			if err != nil {
				return Level{}, false, err
			}
			apart = ok && text == "0"
		}
		first = false
		if apart {
			return Level{}, false, nil
		}
		return read(r)
	}
}

func (e *explainer) cpu() error {
	online := newMachineFile("/sys/devices/system/cpu/online").list()
	for i := range online {
		online[i].Limit.n *= 1e6
	}
	if err := e.bound(ControllerCPU, "cpu.max", UnitMicroCPUs, quotaAt, online...); err != nil {
		return err
	}
	return e.shares()
}

// quotaAt is the quota as CPU time in a second.
func quotaAt(r rung) (Level, bool, error) {
	file := "cpu.max"
	if !r.in.v2 {
		file = quotaV1
	}
	text, ok, err := r.read(file)
	if err != nil || !ok {
		return Level{}, false, err
	}
	if !r.in.v2 {
		period, ok, err := r.read(periodV1)
		if err != nil || !ok {
			return Level{}, false, err
		}
		text += " " + period
	}
	b, err := parseCPUMax(text)
	if err != nil {
		return Level{}, false, &FileError{Op: "parse", Path: r.in.dir.Join(path.Join(r.rel, file)), Data: text, Err: err}
	}
	l := Max()
	if b.quota != noLimit && b.period > 0 {
		l = Limit{set, uint64(float64(b.quota) * 1e6 / float64(b.period))}
	}
	return r.level(file, text, l), true, nil
}

// shares compares weights with those of the siblings.
func (e *explainer) shares() error {
	rungs, err := e.ladder(ControllerCPU)
	if err != nil {
		return err
	}
	for _, r := range rungs {
		file := "cpu.weight"
		if !r.in.v2 {
			file = "cpu.shares"
		}
		if text, ok, err := r.read("cpu.idle"); err != nil || ok && text == "1" {
			e.to.Shares = nil
			return err
		}
		weight, ok, err := r.number(file)
		if err != nil {
			return err
		}
		if !ok || r.rel == "" {
			continue // not under the controller; or the top, which has no sibling
		}
		sum := weight
		parent, name := path.Split(r.rel)
		siblings, err := r.in.siblings(parent)
		if err != nil {
			return err
		}
		for _, s := range siblings {
			if s == name {
				continue
			}
			sibling := rung{in: r.in, rel: path.Join(parent, s)}
			n, ok, err := sibling.number(file)
			if err != nil {
				return err
			}
			if ok {
				sum += n
			}
		}
		e.to.Shares = append(e.to.Shares, Share{Group: r.rel, Weight: weight, Sum: sum})
	}
	return nil
}

// siblings are the names of the groups in parent, which ends with a slash if it
// is not the top.
func (h *hierarchy) siblings(parent string) ([]string, error) {
	dir := h.dir
	if parent != "" {
		var err error
		if dir, err = h.dir.OpenDir(strings.TrimSuffix(parent, "/")); err != nil {
			return nil, err
		}
		defer dir.Close()
	}
	return dir.Dirs()
}

// number reads a file of one number.
func (r rung) number(file string) (n uint64, ok bool, err error) {
	text, ok, err := r.read(file)
	if err != nil || !ok {
		return 0, false, err
	}
	n, err = parseAmount(text)
	return n, err == nil, err
}

// cpuset explains sets by the number of their members. The kernel says itself
// what is in force at each level, so that of the lowest is also that of those
// below; who binds is the highest.
func (e *explainer) cpuset() error {
	for _, k := range []struct {
		knob, effective2, effective1 string
		unit                         Unit
		machine                      string
	}{
		{"cpuset.cpus", "cpuset.cpus.effective", "cpuset.effective_cpus", UnitCPUs, "/sys/devices/system/cpu/online"},
		{"cpuset.mems", "cpuset.mems.effective", "cpuset.effective_mems", UnitNodes, "/sys/devices/system/node/has_memory"},
	} {
		read := func(r rung) (Level, bool, error) {
			file := k.effective2
			if !r.in.v2 {
				file = k.effective1
			}
			text, ok, err := r.read(file)
			if err != nil || !ok {
				return Level{}, false, err
			}
			return r.level(k.knob, text, Count(uint64(membersOf(text)))), true, nil
		}
		before := len(e.to.Bounds)
		if err := e.bound(ControllerCPUSet, k.knob, k.unit, read, newMachineFile(k.machine).list()...); err != nil {
			return err
		}
		if len(e.to.Bounds) == before {
			continue
		}
		b := &e.to.Bounds[before]
		for _, l := range b.Levels {
			if l.Limit == b.Limit {
				b.By = l
			}
		}
		b.Asked = Limit{}
		if rungs, err := e.ladder(ControllerCPUSet); err != nil || rungs[0].own == nil {
			return err
		} else if text, ok, err := rungs[0].read(k.knob); err != nil {
			return err
		} else if ok && text != "" {
			b.Asked = Count(uint64(membersOf(text)))
		}
	}
	return nil
}

// membersOf counts the members of a list.
func membersOf(list string) int {
	s, err := ParseSet(list)
	if err != nil {
		return 0
	}
	return s.Len()
}

func (e *explainer) pids() error {
	above := slices.Concat(newMachineFile("/proc/sys/kernel/pid_max").number(), newMachineFile("/proc/sys/kernel/threads-max").number())
	return e.bound(ControllerPIDs, "pids.max", UnitProcesses, single("pids.max", "pids.max"), above...)
}

// io explains the limits of each device that some level names. v1 does not hold
// a group to the limits of those above it.
func (e *explainer) io() error {
	rungs, err := e.ladder(ControllerIO)
	if err != nil || rungs == nil {
		return err
	}
	names := []struct {
		field, file string
		unit        Unit
	}{{"rbps", throttleV1[0].file, UnitByteRate}, {"wbps", throttleV1[1].file, UnitByteRate}, {"riops", throttleV1[2].file, UnitOpRate}, {"wiops", throttleV1[3].file, UnitOpRate}}
	devices := make(map[string]bool)
	for _, r := range rungs {
		for _, n := range names {
			text, ok, err := r.read(map[bool]string{true: "io.max", false: n.file}[r.in.v2])
			if err != nil {
				return err
			}
			for line := range strings.Lines(text) {
				if device, _, _ := strings.Cut(line, " "); ok && device != "" {
					devices[device] = true
				}
			}
		}
	}
	sorted := make([]Device, 0, len(devices))
	for text := range devices {
		var d Device
		if d.UnmarshalText([]byte(text)) == nil {
			sorted = append(sorted, d)
		}
	}
	slices.SortFunc(sorted, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor))
	})
	for _, d := range sorted {
		for _, n := range names {
			read := func(r rung) (Level, bool, error) {
				if !r.in.v2 && r.own == nil {
					return Level{}, false, nil
				}
				return r.throttle(d.String(), n.field, n.file)
			}
			if err := e.bound(ControllerIO, "io.max "+d.String()+" "+n.field, n.unit, read); err != nil {
				return err
			}
		}
	}
	return nil
}

// throttle reads a field of io.max, or v1's file of the same; no line is no
// limit.
func (r rung) throttle(device, field, fileV1 string) (Level, bool, error) {
	file := "io.max"
	if !r.in.v2 {
		file = fileV1
	}
	text, ok, err := r.read(file)
	if err != nil || !ok {
		return Level{}, false, err
	}
	line, _ := lineOf(text, device)
	value := line
	if r.in.v2 {
		value, _ = fieldOf(line, field)
	}
	l := Max()
	if n, err := parseAmount(value); err == nil {
		l = limitOf(n)
	}
	return r.level(file, strings.TrimSpace(device+" "+line), l), true, nil
}

func (e *explainer) hugetlb() error {
	for size := uint64(64 << 10); size <= 16<<30; size <<= 1 {
		pool := newMachineFile("/sys/kernel/mm/hugepages/hugepages-" + strconv.FormatUint(size>>10, 10) + "kB/nr_hugepages").number()
		for i := range pool {
			pool[i].Limit.n *= size
		}
		read := single(hugetlbFile(1, size, false), hugetlbFile(2, size, false))
		if err := e.bound(ControllerHugeTLB, hugetlbFile(2, size, false), UnitBytes, read, pool...); err != nil {
			return err
		}
	}
	return nil
}

// machineFile is a file about the whole machine. One that is not there, or not
// understood, limits nothing.
type machineFile struct{ path, text string }

func newMachineFile(path string) machineFile {
	b, err := os.ReadFile(path)
	if err != nil {
		return machineFile{path: path}
	}
	return machineFile{path, strings.TrimSpace(string(b))}
}

func (m machineFile) level(text string, n uint64) []Level {
	return []Level{{Path: m.path, Text: text, Limit: Limit{set, n}}}
}

// number is the one number of the file.
func (m machineFile) number() []Level {
	n, err := strconv.ParseUint(m.text, 10, 48)
	if err != nil {
		return nil
	}
	return m.level(m.text, n)
}

// kilobytes is a line of /proc/meminfo.
func (m machineFile) kilobytes(name string) []Level {
	rest, ok := lineOf(m.text, name+":")
	n, err := strconv.ParseUint(strings.TrimSuffix(rest, " kB"), 10, 48)
	if !ok || err != nil {
		return nil
	}
	return m.level(name+": "+rest, n<<10)
}

// list counts the members of a list.
func (m machineFile) list() []Level {
	n := membersOf(m.text)
	if n == 0 {
		return nil
	}
	return m.level(m.text, uint64(n))
}
