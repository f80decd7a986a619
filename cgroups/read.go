// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Resources reads what holds now, in v2's words. A knob that the kernel or the
// layout lacks, or whose controller the group is not under, is unset. So is the
// weight of an idle group, which has none, and on v2 a device filter, whose
// rules cannot be read back. Every knob that can be without a limit says so, and
// updating the group with what was read changes nothing.
//
// A weight on v1 may read otherwise than it was set: several weights have the
// same shares, or the same bfq weight.
//
// If controllers are named, their knobs alone are read: each costs some system
// calls.
//
// It returns an error that matches [ErrGone] if the group was removed.
func (c *Cgroup) Resources(of ...Controller) (Resources, error) {
	t := filesOf(c)
	defer t.close()
	sizes, err := c.root.pageSizes.get()
	if err != nil {
		sizes = everyPageSize()
	}
	r, err := readResources(t, sizes, func(ctl Controller) bool {
		return t.in(ctl) != nil && (len(of) == 0 || slices.Contains(of, ctl))
	})
	if err != nil {
		return Resources{}, fmt.Errorf("resources of cgroup %s: %w", c.path, err)
	}
	return r, nil
}

// readResources reads the knobs of the controllers that the tree has, where sizes
// are the sizes of huge pages that there may be.
func readResources(t tree, sizes []uint64, under func(Controller) bool) (r Resources, err error) {
	k := &knobReader{t: t, sizes: sizes}
	for _, step := range []struct {
		ctl  Controller
		read func(version int, r *Resources)
	}{
		{ControllerCPU, k.cpu},
		{ControllerCPUSet, k.cpuset},
		{ControllerMemory, k.memory},
		{ControllerIO, k.io},
		{ControllerPIDs, k.pids},
		{ControllerHugeTLB, k.hugetlb},
		{ControllerRDMA, k.rdma},
		{ControllerMisc, k.misc},
		{ControllerDevices, k.devices},
	} {
		if under(step.ctl) {
			k.ctl = step.ctl
			step.read(t.version(step.ctl), &r)
		}
	}
	if i := slices.IndexFunc(k.errs, func(err error) bool { return errors.Is(err, ErrGone) }); i >= 0 {
		return r, k.errs[i] // as the others would say, too
	}
	return r, errors.Join(k.errs...)
}

// knobReader reads files and collects what went wrong.
type knobReader struct {
	t     tree
	sizes []uint64
	ctl   Controller // whose files are being read
	errs  []error
}

// text is what the file holds; ok is false if it is absent or cannot be read.
func (k *knobReader) text(file string) (text string, ok bool) {
	text, err := k.t.read(k.ctl, file)
	if isAbsent(err) {
		return "", false
	}
	if err != nil {
		k.errs = append(k.errs, err)
	}
	return text, err == nil
}

// bad says that the file makes no sense.
func (k *knobReader) bad(file, text string) {
	k.errs = append(k.errs, &FileError{Op: "parse", Path: k.t.path(k.ctl, file), Data: text, Err: errors.New("not understood")})
}

func (k *knobReader) number(file string) (n uint64, ok bool) {
	text, ok := k.text(file)
	if !ok {
		return 0, false
	}
	n, err := parseAmount(text)
	if err != nil {
		k.bad(file, text)
		return 0, false
	}
	return n, true
}

func (k *knobReader) limit(file string) Limit {
	n, ok := k.number(file)
	if !ok {
		return Limit{}
	}
	return limitOf(n)
}

func (k *knobReader) onOff(file string) Switch {
	n, ok := k.number(file)
	if !ok {
		return Keep
	}
	return SwitchOf(n != 0)
}

func (k *knobReader) cpu(version int, r *Resources) {
	names, read := cpuFilesV2, bandwidthV2
	if version == 1 {
		names, read = cpuFilesV1, bandwidthV1
	}
	r.CPU.Idle = k.onOff(names.idle)
	if r.CPU.Idle != On {
		if n, ok := k.number(names.weight); ok && version == 1 {
			r.CPU.Weight = WeightOf(weightOfShares(n))
		} else if ok {
			r.CPU.Weight = WeightOf(uint16(min(n, 10000)))
		}
	}
	b, err := read(&planner{tree: k.t})
	switch {
	case err == nil && b.quota == noLimit:
		r.CPU.Max = NoQuota()
	case err == nil:
		r.CPU.Max = Quota(microseconds(b.quota), microseconds(b.period))
	case !errors.Is(err, ErrNotSupported):
		k.errs = append(k.errs, err)
	}
	if n, ok := k.number(names.burst); ok {
		r.CPU.Burst = DurationOf(microseconds(n))
	}
}

func microseconds(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }

func (k *knobReader) cpuset(version int, r *Resources) {
	r.CPUSet.CPUs, r.CPUSet.Mems = k.set(version, "cpuset.cpus"), k.set(version, "cpuset.mems")
	if version == 1 {
		return
	}
	if text, ok := k.text(partitionFile); ok {
		word, _, _ := strings.Cut(text, " ") // an invalid one says why after it
		if err := r.CPUSet.Partition.UnmarshalText([]byte(word)); err != nil {
			k.bad(partitionFile, text)
		}
	}
}

// set is a list. An empty one is the parent's on v2, and not yet set on v1.
func (k *knobReader) set(version int, file string) Set {
	text, ok := k.text(file)
	switch {
	case !ok, text == "" && version == 1:
		return Set{}
	case text == "":
		return DefaultSet()
	}
	s, err := ParseSet(text)
	if err != nil {
		k.bad(file, text)
	}
	return s
}

func (k *knobReader) memory(version int, r *Resources) {
	m := &r.Memory
	if version == 2 {
		m.Max, m.High, m.Low, m.Min = k.limit(maxFile), k.limit(highFile), k.limit("memory.low"), k.limit("memory.min")
		m.Swap, m.SwapHigh = k.limit("memory.swap.max"), k.limit("memory.swap.high")
		m.OOMGroup = k.onOff("memory.oom.group")
		return
	}
	m.Max = k.limit(limitV1)
	sum, ok := k.number(memswV1)
	switch limit, limited := m.Max.Value(); {
	case !ok:
	case sum == noLimit || !limited:
		m.Swap = Max()
	default:
		m.Swap = Bytes(sum - min(limit, sum))
	}
}

func (k *knobReader) io(version int, r *Resources) {
	devices := make(map[Device]*IODevice)
	at := func(key string) *IODevice {
		var d Device
		if d.UnmarshalText([]byte(key)) != nil {
			return &IODevice{} // "default", or a device that is gone
		}
		if devices[d] == nil {
			devices[d] = &IODevice{Device: d}
		}
		return devices[d]
	}
	k.priority(version, r)
	if version == 1 {
		k.ioV1(r, at)
	} else {
		k.ioV2(r, at)
	}
	for _, d := range devices {
		r.IO.Devices = append(r.IO.Devices, *d)
	}
	r.IO = r.sorted().IO
}

func (k *knobReader) priority(version int, r *Resources) {
	file := prioKnob
	if version == 1 {
		file = prioFileV1
	}
	if text, ok := k.text(file); ok && r.IO.Priority.UnmarshalText([]byte(text)) != nil {
		k.bad(file, text)
	}
}

func (k *knobReader) ioV2(r *Resources, at func(string) *IODevice) {
	weightFile, conv := costWeightFile, func(n uint16) uint16 { return n }
	if _, ok := k.text(weightFile); !ok {
		weightFile, conv = bfqWeightFile, weightOfBFQ
	}
	k.lines(weightFile, func(key, rest string) bool {
		n, err := strconv.ParseUint(rest, 10, 16)
		if key == "default" {
			r.IO.Weight = WeightOf(conv(uint16(n)))
		} else {
			at(key).Weight = WeightOf(conv(uint16(n)))
		}
		return err == nil
	})
	k.lines("io.max", func(key, rest string) bool {
		d, ok := at(key), true
		for _, f := range []struct {
			name string
			to   *Limit
		}{{"rbps", &d.ReadBytes}, {"wbps", &d.WriteBytes}, {"riops", &d.ReadOps}, {"wiops", &d.WriteOps}} {
			ok = ok && fieldLimit(rest, f.name, f.to)
		}
		return ok
	})
	k.lines("io.latency", func(key, rest string) bool {
		var l Limit
		ok := fieldLimit(rest, "target", &l)
		at(key).Latency = DurationOf(microseconds(l.n))
		return ok
	})
}

func (k *knobReader) ioV1(r *Resources, at func(string) *IODevice) {
	if n, ok := k.number(bfqWeightV1); ok {
		r.IO.Weight = WeightOf(weightOfBFQ(uint16(min(n, 1000))))
	}
	k.lines(bfqDeviceWeightV1, func(key, rest string) bool {
		n, err := strconv.ParseUint(rest, 10, 16)
		at(key).Weight = WeightOf(weightOfBFQ(uint16(n)))
		return err == nil
	})
	for _, f := range throttleV1 {
		k.lines(f.file, func(key, rest string) bool {
			n, err := parseAmount(rest)
			*f.limit(at(key)) = limitOf(n)
			return err == nil
		})
	}
}

// fieldLimit reads one "name=value" of a line into to.
func fieldLimit(line, name string, to *Limit) bool {
	v, ok := fieldOf(line, name)
	n, err := parseAmount(v)
	*to = limitOf(n)
	return ok && err == nil
}

// lines calls parse for each line of a file that is there.
func (k *knobReader) lines(file string, parse func(key, rest string) bool) {
	text, _ := k.text(file)
	for line := range strings.Lines(text) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key != "" && !parse(key, strings.TrimSpace(rest)) {
			k.bad(file, line)
		}
	}
}

func (k *knobReader) pids(_ int, r *Resources) { r.PIDs.Max = k.limit("pids.max") }

func (k *knobReader) hugetlb(version int, r *Resources) {
	for _, size := range k.sizes {
		h := HugeTLB{PageSize: size, Max: k.limit(hugetlbFile(version, size, false))}
		if h.Max.IsZero() {
			continue
		}
		h.Reserved = k.limit(hugetlbFile(version, size, true))
		r.HugeTLB = append(r.HugeTLB, h)
	}
}

func (k *knobReader) rdma(_ int, r *Resources) {
	k.lines(rdmaFile, func(key, rest string) bool {
		d := RDMA{Device: key}
		ok := fieldLimit(rest, "hca_handle", &d.Handles) && fieldLimit(rest, "hca_object", &d.Objects)
		r.RDMA = append(r.RDMA, d)
		return ok
	})
}

func (k *knobReader) misc(_ int, r *Resources) {
	k.lines(miscFile, func(key, rest string) bool {
		n, err := parseAmount(rest)
		r.Misc = append(r.Misc, Misc{Name: key, Max: limitOf(n)})
		return err == nil
	})
}

func (k *knobReader) devices(version int, r *Resources) {
	if version == 1 {
		if text, ok := k.text(devicesList); ok {
			rules, all := parseDevicesList(text)
			if r.Devices = AllDevices(); !all {
				r.Devices = AllowDevices(slices.Clip(rules)...)
			}
		}
		return
	}
	// Without the right to ask the kernel there is no answer, as with rules.
	if text, err := k.t.read(k.ctl, devicesBPF); err == nil && text == wordAll {
		r.Devices = AllDevices()
	}
}
