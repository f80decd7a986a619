// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/cgroups"
)

// limitFlags are the limits, for run, create and update. A flag that is not
// given leaves its knob as it is.
func limitFlags(fs *flag.FlagSet, r *cgroups.Resources) {
	value(fs, "cpu-weight", &r.CPU.Weight, "`N` from 1 to 10000: share of CPU time under contention; 100 by default")
	value(fs, "cpu-max", &r.CPU.Max, "`CPUS` such as 0.5, QUOTA/PERIOD such as 50ms/100ms, or max")
	value(fs, "cpu-burst", &r.CPU.Burst, "`TIME` of quota that may be saved up")
	value(fs, "cpu-idle", &r.CPU.Idle, "on or off: `STATE` of running only when nobody else wants to")
	value(fs, "cpus", &r.CPUSet.CPUs, "`LIST` of CPUs to run on, such as 0-3,8")
	value(fs, "mems", &r.CPUSet.Mems, "`LIST` of memory nodes to allocate from")
	for _, m := range []struct {
		name, does string
		to         *cgroups.Limit
	}{
		{"memory-max", "above it the kernel reclaims and then kills", &r.Memory.Max},
		{"memory-high", "above it the kernel reclaims and slows down", &r.Memory.High},
		{"memory-low", "below it memory is taken only if nobody else has any", &r.Memory.Low},
		{"memory-min", "below it memory is never taken", &r.Memory.Min},
		{"memory-swap", "how much swap may be used", &r.Memory.Swap},
	} {
		fs.Func(m.name, "`SIZE` such as 64M, max or default: "+m.does, func(s string) (err error) {
			*m.to, err = parseSize(s)
			return err
		})
	}
	value(fs, "oom-group", &r.Memory.OOMGroup, "on or off: `STATE` of killing all of the sandbox when out of memory")
	value(fs, "pids-max", &r.PIDs.Max, "`N` processes and threads, or max")
	value(fs, "io-weight", &r.IO.Weight, "`N` from 1 to 10000: share of the disks under contention")
	value(fs, "io-prio", &r.IO.Priority, "no-change, promote-to-rt, restrict-to-be, none-to-rt or idle: `CLASS` of the requests")
	fs.Func("io-max", "`DEV:rbps=SIZE,wbps=SIZE,riops=N,wiops=N` a second, for a disk such as 8:0 or /dev/vda; may be repeated", func(s string) error {
		d, err := parseIOMax(s, cgroups.ParseDevice)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(r.IO.Devices, func(o cgroups.IODevice) bool { return o.Device == d.Device }) {
			return fmt.Errorf("device %s is given twice", d.Device)
		}
		r.IO.Devices = append(r.IO.Devices, d)
		return nil
	})
	fs.Func("devices", "`RULE,...` such as \"c 1:3 rwm\", none, default for what containers usually have, or all", func(s string) (err error) {
		r.Devices, err = parseDevices(s)
		return err
	})
}

// The binary suffixes of sizes.
const sizeSuffixes = "KMGTPE"

// parseSize reads bytes: digits with an optional suffix K, M, G, T, P or E in
// powers of 1024, or "max" or "default".
func parseSize(s string) (cgroups.Limit, error) {
	switch s {
	case "max":
		return cgroups.Max(), nil
	case "default":
		return cgroups.Default(), nil
	}
	digits, shift := s, 0
	if s != "" {
		if i := strings.IndexByte(sizeSuffixes, s[len(s)-1]); i >= 0 {
			digits, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || strings.HasPrefix(digits, "+") {
		return cgroups.Limit{}, fmt.Errorf("not a size such as 4096, 64M, max or default")
	}
	if bits.LeadingZeros64(n) < shift && n > math.MaxUint64>>shift {
		return cgroups.Limit{}, fmt.Errorf("more than 2^64 bytes")
	}
	return cgroups.Bytes(n << shift), nil
}

// parseIOMax reads "8:0:rbps=1M,wiops=100". resolve turns the part before the
// last colon into the device's number.
func parseIOMax(s string, resolve func(string) (cgroups.Device, error)) (cgroups.IODevice, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return cgroups.IODevice{}, fmt.Errorf("not DEV:KEY=VALUE,... such as 8:0:rbps=1M")
	}
	dev, err := resolve(s[:i])
	if err != nil {
		return cgroups.IODevice{}, err
	}
	d := cgroups.IODevice{Device: dev}
	for part := range strings.SplitSeq(s[i+1:], ",") {
		key, text, _ := strings.Cut(part, "=")
		var to *cgroups.Limit
		read := parseSize
		switch key {
		case "rbps":
			to = &d.ReadBytes
		case "wbps":
			to = &d.WriteBytes
		case "riops":
			to, read = &d.ReadOps, parseCount
		case "wiops":
			to, read = &d.WriteOps, parseCount
		default:
			return cgroups.IODevice{}, fmt.Errorf("%q is none of rbps, wbps, riops, wiops", key)
		}
		if !to.IsZero() {
			return cgroups.IODevice{}, fmt.Errorf("%s is given twice", key)
		}
		if *to, err = read(text); err != nil {
			return cgroups.IODevice{}, fmt.Errorf("%s %q: %w", key, text, err)
		}
	}
	return d, nil
}

// parseCount reads a number, "max" or "default".
func parseCount(s string) (l cgroups.Limit, err error) {
	if s == "" {
		return l, fmt.Errorf("no number")
	}
	err = l.UnmarshalText([]byte(s))
	return l, err
}

func parseDevices(s string) (cgroups.Devices, error) {
	switch s {
	case "all":
		return cgroups.AllDevices(), nil
	case "none":
		return cgroups.AllowDevices(), nil
	case "default":
		return cgroups.DefaultDevices(), nil
	}
	var rules []cgroups.DeviceRule
	for text := range strings.SplitSeq(s, ",") {
		r, err := cgroups.ParseDeviceRule(text)
		if err != nil {
			return cgroups.Devices{}, err
		}
		rules = append(rules, r)
	}
	return cgroups.AllowDevices(rules...), nil
}
