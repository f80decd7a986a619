// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bytes"
	"time"

	"github.com/caisson-run/caisson/internal/parse"
)

// scan scans v2's io.stat: a device, then its "key=value" words. Some kernels
// name a device that has no figures without ending the line, so lines mean
// nothing here and such a device is left out.
func (s *IOStats) scan(text []byte) error {
	zero := ReadingOf[uint64](0)
	s.Total = IOCounters{zero, zero, zero, zero, zero, zero}
	var device Device
	var into *IODeviceStats
	for {
		var word []byte
		if word, text = parse.Field(text); len(word) == 0 {
			return nil
		}
		key, value, ok := parse.Assignment(word)
		if !ok {
			// A device that is being removed is called "(unknown)".
			device, _ = scanDevice(word)
			into = nil
			continue
		}
		if into == nil && !device.IsZero() {
			into = s.device(device)
		}
		if into == nil {
			continue
		}
		if string(key) == "cost.usage" {
			if err := scanTime(&into.Cost, value, time.Microsecond); err != nil {
				return err
			}
		}
		if field := into.field(key); field != nil {
			if err := scanUint(field, value); err != nil {
				return err
			}
		}
	}
}

// scanLegacy scans blkio.throttle.io_service_bytes_recursive, or, with ops,
// io_serviced_recursive: lines such as "8:0 Read 4096", and "Total 4096".
func (s *IOStats) scanLegacy(text []byte, ops bool) error {
	zero := ReadingOf[uint64](0)
	if t := &s.Total; ops {
		t.ReadOps, t.WriteOps, t.DiscardOps = zero, zero, zero
	} else {
		t.ReadBytes, t.WriteBytes, t.DiscardBytes = zero, zero, zero
	}
	for len(text) > 0 {
		var line []byte
		line, text = parse.Line(text)
		word, line := parse.Field(line)
		kind, line := parse.Field(line)
		device, ok := scanDevice(word)
		if !ok || device.IsZero() {
			continue
		}
		if field := s.device(device).fieldLegacy(kind, ops); field != nil {
			if err := scanUint(field, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// device is what there is of a device, nothing yet if it was not met before.
func (s *IOStats) device(d Device) *IODeviceStats {
	for i := range s.Devices {
		if s.Devices[i].Device == d {
			return &s.Devices[i]
		}
	}
	var dev *IODeviceStats
	s.Devices, dev = next(s.Devices)
	*dev = IODeviceStats{Device: d}
	return dev
}

func (c *IOCounters) field(key []byte) *Reading[uint64] {
	switch string(key) {
	case "rbytes":
		return &c.ReadBytes
	case "wbytes":
		return &c.WriteBytes
	case "dbytes":
		return &c.DiscardBytes
	case "rios":
		return &c.ReadOps
	case "wios":
		return &c.WriteOps
	case "dios":
		return &c.DiscardOps
	}
	return nil
}

func (c *IOCounters) fieldLegacy(kind []byte, ops bool) *Reading[uint64] {
	switch string(kind) {
	case "Read":
		if ops {
			return &c.ReadOps
		}
		return &c.ReadBytes
	case "Write":
		if ops {
			return &c.WriteOps
		}
		return &c.WriteBytes
	case "Discard":
		if ops {
			return &c.DiscardOps
		}
		return &c.DiscardBytes
	}
	return nil
}

// sum sets the totals that the kernel does not give.
func (s *IOStats) sum() {
	add := func(to *Reading[uint64], from Reading[uint64]) {
		if n, ok := from.Value(); ok {
			to.v += n
		}
	}
	for i := range s.Devices {
		t, d := &s.Total, &s.Devices[i]
		add(&t.ReadBytes, d.ReadBytes)
		add(&t.WriteBytes, d.WriteBytes)
		add(&t.DiscardBytes, d.DiscardBytes)
		add(&t.ReadOps, d.ReadOps)
		add(&t.WriteOps, d.WriteOps)
		add(&t.DiscardOps, d.DiscardOps)
	}
}

// scanDevice is the device that b names, "8:0".
func scanDevice(b []byte) (Device, bool) {
	i := bytes.IndexByte(b, ':')
	if i < 0 {
		return Device{}, false
	}
	major, ok1 := parse.Uint(b[:i])
	minor, ok2 := parse.Uint(b[i+1:])
	if !ok1 || !ok2 || major > maxMajor || minor > maxMinor {
		return Device{}, false
	}
	return Device{uint32(major), uint32(minor)}, true
}
