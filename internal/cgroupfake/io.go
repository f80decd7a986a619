// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ioKinds are the files of io (block/blk-throttle.c, blk-iocost.c, bfq).
func (t *tree) ioKinds() []kind {
	if !t.v2 {
		var kinds []kind
		for _, name := range []string{"read_bps", "write_bps", "read_iops", "write_iops"} {
			kinds = append(kinds, throttle("blkio.throttle."+name+"_device"))
		}
		bfq := weightFile("blkio.bfq.weight", 1000)
		bfq.where = everywhere
		bfq.init = "100"
		return append(kinds, bfq,
			kind{name: "blkio.bfq.weight_device", ctl: io, store: storeBFQDevice},
			shows("blkio.throttle.io_service_bytes_recursive", io, everywhere, func(*group) string { return "Total 0\n" }),
			shows("blkio.throttle.io_serviced_recursive", io, everywhere, func(*group) string { return "Total 0\n" }),
		)
	}
	return []kind{
		{name: "io.max", ctl: io, where: notTop, store: storeIOMax},
		weightFile("io.weight", 10000), weightFile("io.bfq.weight", 1000),
		{name: "io.latency", ctl: io, where: notTop, store: storeLatency},
		shows("io.stat", io, everywhere, func(*group) string { return "" }),
		{name: "io.cost.qos", ctl: io, where: onlyTop, log: true, show: func(g *group) (string, error) {
			if !g.m.cfg.CostEnabled {
				return "", nil
			}
			var b strings.Builder
			for _, d := range g.m.cfg.Disks {
				b.WriteString(d + " enable=1 ctrl=auto rpct=0.00 rlat=250000 wpct=0.00 wlat=250000 min=1.00 max=10000.00\n")
			}
			return b.String(), nil
		}},
	}
}

// disk reads MAJ:MIN and what follows. Partitions are no disks.
func (m *Machine) disk(data string) (dev, rest string, err error) {
	dev, rest, _ = strings.Cut(strip(data), " ")
	var major, minor uint32
	if n, err := fmt.Sscanf(dev, "%d:%d", &major, &minor); n != 2 || err != nil {
		return "", "", syscall.EINVAL
	}
	dev = fmt.Sprintf("%d:%d", major, minor)
	if !slices.Contains(m.cfg.Disks, dev) {
		return "", "", syscall.ENODEV
	}
	return dev, strings.TrimSpace(rest), nil
}

var ioMaxFields = [...]string{"rbps", "wbps", "riops", "wiops"}

// storeIOMax changes the fields that are named; a line without a limit goes.
func storeIOMax(g *group, data string) error {
	dev, rest, err := g.m.disk(data)
	if err != nil {
		return err
	}
	now := line(g.text("io.max"), dev)
	values := [len(ioMaxFields)]string{"max", "max", "max", "max"}
	for i, name := range ioMaxFields {
		if v, ok := assignment(now, name); ok {
			values[i] = v
		}
	}
	for word := range strings.FieldsSeq(rest) {
		name, value, ok := strings.Cut(word, "=")
		i := slices.Index(ioMaxFields[:], name)
		n, number := leadingUint(value)
		switch {
		case !ok, value != "max" && !number:
			return syscall.EINVAL
		case number && n == 0:
			return syscall.ERANGE
		case i < 0:
			return syscall.EINVAL
		case value == "max", i >= 2 && n >= 1<<32-1:
			values[i] = "max"
		default:
			values[i] = strconv.FormatUint(n, 10)
		}
	}
	text := ""
	if values != [...]string{"max", "max", "max", "max"} {
		for i, name := range ioMaxFields {
			text += " " + name + "=" + values[i]
		}
		text = text[1:]
	}
	g.setText("io.max", setLine(g.text("io.max"), dev, text))
	return nil
}

func throttle(name string) kind {
	return kind{name: name, ctl: io, store: func(g *group, data string) error {
		dev, rest, err := g.m.disk(data)
		if err != nil {
			return err
		}
		n, ok := leadingUint(rest)
		if !ok {
			return syscall.EINVAL
		}
		text := ""
		if n != 0 {
			text = strconv.FormatUint(n, 10)
		}
		g.setText(name, setLine(g.text(name), dev, text))
		return nil
	}}
}

// weightFile has a default and a line for each device.
func weightFile(name string, most uint64) kind {
	return kind{name: name, ctl: io, where: notTop, init: "default 100", store: func(g *group, data string) error {
		data = strip(data)
		if !strings.Contains(data, ":") {
			n, ok := leadingUint(strings.TrimPrefix(data, "default "))
			switch {
			case !ok:
				return syscall.EINVAL
			case n < 1 || n > most:
				return weightRange(name)
			}
			text := strconv.FormatUint(n, 10)
			if g.v2 {
				text = setLine(g.text(name), "default", text)
			}
			g.setText(name, text)
			return nil
		}
		dev, rest, err := g.m.disk(data)
		if err != nil {
			return err
		}
		if name == "io.weight" && !g.m.cfg.CostEnabled {
			return syscall.EOPNOTSUPP
		}
		return g.deviceWeight(name, dev, rest, most)
	}}
}

// weightRange is how a weight out of range is refused.
func weightRange(name string) error {
	if name == "io.weight" {
		return syscall.EINVAL
	}
	return syscall.ERANGE
}

func (g *group) deviceWeight(name, dev, rest string, most uint64) error {
	text := ""
	if n, ok := leadingUint(rest); ok && n != 0 {
		if n > most {
			return weightRange(name)
		}
		text = strconv.FormatUint(n, 10)
	} else if rest != "default" && !ok {
		return syscall.EINVAL
	}
	g.setText(name, setLine(g.text(name), dev, text))
	return nil
}

func storeBFQDevice(g *group, data string) error {
	dev, rest, err := g.m.disk(data)
	if err != nil {
		return err
	}
	return g.deviceWeight("blkio.bfq.weight_device", dev, rest, 1000)
}

func storeLatency(g *group, data string) error {
	dev, rest, err := g.m.disk(data)
	if err != nil {
		return err
	}
	value, ok := assignment(rest, "target")
	n, number := leadingUint(value)
	switch {
	case !ok, value != "max" && !number:
		return syscall.EINVAL
	}
	text := ""
	if n != 0 {
		text = "target=" + strconv.FormatUint(n, 10)
	}
	g.setText("io.latency", setLine(g.text("io.latency"), dev, text))
	return nil
}
