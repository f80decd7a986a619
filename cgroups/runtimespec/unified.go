// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/cgroups"
)

// unified parses the entries into knobs.
func (c *conversion) unified(entries map[string]string) {
	for _, file := range sortedKeys(entries) {
		text := strings.TrimSpace(entries[file])
		field := "unified." + file
		if !isKnob(file) {
			c.bad(field, text, "no knob's file")
			continue
		}
		parse := knobs[file]
		if name, ok := strings.CutPrefix(file, "hugetlb."); ok {
			parse = hugetlbKnob(name)
		}
		if parse == nil {
			c.leave(field, text, "there is no such knob here")
			continue
		}
		var said cgroups.Resources
		if reason := parse(&said, text); reason != "" {
			c.bad(field, text, reason)
			continue
		}
		merged := c.r.Merge(said)
		if !merged.Equal(said.Merge(c.r)) {
			c.bad(field, text, "another field of the specification says otherwise")
			continue
		}
		c.r = merged
	}
}

// isKnob reports whether file can be the file of a controller's knob: words with
// dots between them, and none of those with which cgroups themselves are managed.
func isKnob(file string) bool {
	odd := func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}
	words := strings.Split(file, ".")
	for _, w := range words {
		if w == "" || strings.ContainsFunc(w, odd) {
			return false
		}
	}
	return len(words) > 1 && words[0] != "cgroup"
}

// A knob parses the text of a file into r; reason says why it cannot.
type knob func(r *cgroups.Resources, text string) (reason string)

// knobs are the files that are parsed, besides those of hugetlb.
var knobs = map[string]knob{
	"cpu.weight":            weightKnob(func(r *cgroups.Resources) *cgroups.Weight { return &r.CPU.Weight }),
	"cpu.max":               cpuMax,
	"cpu.max.burst":         burst,
	"cpu.idle":              switchKnob(func(r *cgroups.Resources) *cgroups.Switch { return &r.CPU.Idle }),
	"cpuset.cpus":           setKnob(func(r *cgroups.Resources) *cgroups.Set { return &r.CPUSet.CPUs }),
	"cpuset.mems":           setKnob(func(r *cgroups.Resources) *cgroups.Set { return &r.CPUSet.Mems }),
	"cpuset.cpus.partition": partition,
	"memory.max":            limitKnob(func(r *cgroups.Resources) *cgroups.Limit { return &r.Memory.Max }),
	"memory.high":           limitKnob(func(r *cgroups.Resources) *cgroups.Limit { return &r.Memory.High }),
	"memory.low":            limitKnob(func(r *cgroups.Resources) *cgroups.Limit { return &r.Memory.Low }),
	"memory.min":            limitKnob(func(r *cgroups.Resources) *cgroups.Limit { return &r.Memory.Min }),
	"memory.swap.max":       limitKnob(func(r *cgroups.Resources) *cgroups.Limit { return &r.Memory.Swap }),
	"memory.swap.high":      limitKnob(func(r *cgroups.Resources) *cgroups.Limit { return &r.Memory.SwapHigh }),
	"memory.oom.group":      switchKnob(func(r *cgroups.Resources) *cgroups.Switch { return &r.Memory.OOMGroup }),
	"pids.max":              limitKnob(func(r *cgroups.Resources) *cgroups.Limit { return &r.PIDs.Max }),
	"io.weight":             lines(ioWeight),
	"io.max":                lines(ioMax),
	"io.latency":            lines(ioLatency),
	"rdma.max":              lines(rdmaMax),
	"misc.max":              lines(miscMax),
}

const (
	notAmount = `neither decimal digits nor "max"`
	notSwitch = "neither 0 nor 1"
	notDevice = "a line does not begin with a device such as 8:0"
)

// limitOf reads decimal digits or "max".
func limitOf(text string) (l cgroups.Limit, ok bool) {
	err := l.UnmarshalText([]byte(text))
	return l, err == nil && !l.IsZero() && !l.IsDefault()
}

func limitKnob(at func(*cgroups.Resources) *cgroups.Limit) knob {
	return func(r *cgroups.Resources, text string) string {
		l, ok := limitOf(text)
		if !ok {
			return notAmount
		}
		*at(r) = l
		return ""
	}
}

func switchKnob(at func(*cgroups.Resources) *cgroups.Switch) knob {
	return func(r *cgroups.Resources, text string) string {
		if text != "0" && text != "1" {
			return notSwitch
		}
		*at(r) = cgroups.SwitchOf(text == "1")
		return ""
	}
}

func setKnob(at func(*cgroups.Resources) *cgroups.Set) knob {
	return func(r *cgroups.Resources, text string) string {
		if text == "" {
			*at(r) = cgroups.DefaultSet() // as the kernel has it
			return ""
		}
		s, err := cgroups.ParseSet(text)
		*at(r) = s
		if err != nil {
			return "not a list such as 0-3,8"
		}
		return ""
	}
}

func weightOf(text string) (w cgroups.Weight, reason string) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n < 1 || n > 10000 {
		return w, "not in 1 to 10000"
	}
	return cgroups.WeightOf(uint16(n)), ""
}

func weightKnob(at func(*cgroups.Resources) *cgroups.Weight) knob {
	return func(r *cgroups.Resources, text string) (reason string) {
		*at(r), reason = weightOf(text)
		return reason
	}
}

// cpuMax reads "50000 100000" and what the kernel takes without a period.
func cpuMax(r *cgroups.Resources, text string) string {
	quota, period, hasPeriod := strings.Cut(text, " ")
	c := &conversion{}
	var length *uint64
	if hasPeriod {
		n, err := strconv.ParseUint(period, 10, 64)
		if err != nil || n == 0 {
			return "the period is not a number"
		}
		length = &n
	}
	n, err := int64(-1), error(nil)
	if quota != "max" {
		if n, err = strconv.ParseInt(quota, 10, 64); err != nil || n < 1 {
			return "the quota is " + notAmount
		}
	}
	c.bandwidth(&n, length)
	if len(c.errs) > 0 {
		return "quota or period out of range"
	}
	r.CPU.Max = c.r.CPU.Max
	return ""
}

func burst(r *cgroups.Resources, text string) string {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > mostMicros {
		return "not a number of microseconds"
	}
	r.CPU.Burst = cgroups.DurationOf(micros(n))
	return ""
}

func partition(r *cgroups.Resources, text string) string {
	if err := r.CPUSet.Partition.UnmarshalText([]byte(text)); err != nil || text == "" {
		return "neither member nor root nor isolated"
	}
	return ""
}

// hugetlbKnob is the knob of hugetlb.NAME, or nil.
func hugetlbKnob(name string) knob {
	page, isLimit := strings.CutSuffix(name, ".max")
	page, reserved := strings.CutSuffix(page, ".rsvd")
	size, err := cgroups.ParsePageSize(page)
	if !isLimit || err != nil {
		return nil
	}
	return func(r *cgroups.Resources, text string) string {
		l, ok := limitOf(text)
		if !ok {
			return notAmount
		}
		h := cgroups.HugeTLB{PageSize: size, Max: l}
		if reserved {
			h.Max, h.Reserved = cgroups.Limit{}, l
		}
		r.HugeTLB = append(r.HugeTLB, h)
		return ""
	}
}

// lines parses a file of one line for each device or resource.
func lines(parse func(r *cgroups.Resources, key, rest string) (reason string)) knob {
	return func(r *cgroups.Resources, text string) string {
		if text == "" {
			return "empty"
		}
		seen := make(map[string]bool)
		for line := range strings.Lines(text) {
			key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			if seen[key] {
				return "two lines for " + key
			}
			seen[key] = true
			if reason := parse(r, key, strings.TrimSpace(rest)); reason != "" {
				return reason
			}
		}
		return ""
	}
}

func ioWeight(r *cgroups.Resources, key, rest string) (reason string) {
	if rest == "" {
		key, rest = "default", key
	}
	if key == "default" {
		if !r.IO.Weight.IsZero() {
			return "two lines for the default"
		}
		r.IO.Weight, reason = weightOf(rest)
		return reason
	}
	return ofDevice(r, key, func(d *cgroups.IODevice) (reason string) {
		if rest == "default" {
			d.Weight = cgroups.DefaultWeight()
			return ""
		}
		d.Weight, reason = weightOf(rest)
		return reason
	})
}

func ofDevice(r *cgroups.Resources, key string, set func(*cgroups.IODevice) string) string {
	var d cgroups.Device
	if d.UnmarshalText([]byte(key)) != nil {
		return notDevice
	}
	return set(deviceIn(r, d))
}

func ioMax(r *cgroups.Resources, key, rest string) string {
	return ofDevice(r, key, func(d *cgroups.IODevice) string {
		return limitFields(rest, map[string]*cgroups.Limit{
			"rbps": &d.ReadBytes, "wbps": &d.WriteBytes, "riops": &d.ReadOps, "wiops": &d.WriteOps,
		})
	})
}

func ioLatency(r *cgroups.Resources, key, rest string) string {
	return ofDevice(r, key, func(d *cgroups.IODevice) string {
		text, ok := strings.CutPrefix(rest, "target=")
		n, err := strconv.ParseUint(text, 10, 64)
		if !ok || err != nil || n > mostMicros {
			return "not target= and microseconds"
		}
		d.Latency = cgroups.DurationOf(micros(n))
		return ""
	})
}

func rdmaMax(r *cgroups.Resources, key, rest string) string {
	d := cgroups.RDMA{Device: key}
	reason := limitFields(rest, map[string]*cgroups.Limit{"hca_handle": &d.Handles, "hca_object": &d.Objects})
	r.RDMA = append(r.RDMA, d)
	return reason
}

func miscMax(r *cgroups.Resources, key, rest string) string {
	l, ok := limitOf(rest)
	if !ok {
		return notAmount
	}
	r.Misc = append(r.Misc, cgroups.Misc{Name: key, Max: l})
	return ""
}

// limitFields reads "rbps=1 wbps=max" into the limits that are there.
func limitFields(text string, to map[string]*cgroups.Limit) string {
	if text == "" {
		return "a line without a limit"
	}
	for f := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(f, "=")
		at := to[name]
		if at == nil || !at.IsZero() {
			return name + " is no field, or named twice"
		}
		l, ok := limitOf(value)
		if !ok {
			return name + " is " + notAmount
		}
		*at = l
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
