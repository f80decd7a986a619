// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// miscKinds are the files of misc (kernel/cgroup/misc.c).
func (t *tree) miscKinds() []kind {
	names := make([]string, 0, len(t.m.cfg.Misc))
	for name := range t.m.cfg.Misc {
		names = append(names, name)
	}
	slices.Sort(names)
	each := func(value func(name string) string) string {
		var lines []string
		for _, name := range names {
			lines = append(lines, name+" "+value(name))
		}
		return strings.Join(lines, "\n")
	}
	none := func(value string) func(*group) string {
		return func(*group) string { return each(func(string) string { return value }) }
	}
	return []kind{
		{name: "misc.max", ctl: misc, where: notTop, initF: none("max"), store: func(g *group, data string) error {
			name, value, ok := strings.Cut(strip(data), " ")
			if !ok || !slices.Contains(names, name) {
				return syscall.EINVAL
			}
			if value != "max" {
				n, err := parseUint(value)
				if err != nil {
					return err
				}
				value = strconv.FormatUint(n, 10)
			}
			g.setText("misc.max", setLine(g.text("misc.max"), name, value))
			return nil
		}},
		shows("misc.current", misc, everywhere, none("0")),
		shows("misc.capacity", misc, onlyTop, func(*group) string {
			return each(func(name string) string { return bytes(t.m.cfg.Misc[name]) })
		}),
	}
}

// rdmaKinds are the files of rdma (kernel/cgroup/rdma.c).
func (t *tree) rdmaKinds() []kind {
	text := func(value string) func(*group) string {
		return func(g *group) string {
			var lines []string
			for _, d := range g.m.cfg.RDMA {
				lines = append(lines, d+" hca_handle="+value+" hca_object="+value)
			}
			return strings.Join(lines, "\n")
		}
	}
	return []kind{
		{name: "rdma.max", ctl: rdma, where: notTop, initF: text("max"), store: storeRDMA},
		shows("rdma.current", rdma, notTop, text("0")),
	}
}

func storeRDMA(g *group, data string) error {
	dev, rest, _ := strings.Cut(strip(data), " ")
	now := line(g.text("rdma.max"), dev)
	names := []string{"hca_handle", "hca_object"}
	values := make([]string, len(names))
	for i, name := range names {
		values[i], _ = assignment(now, name)
	}
	for word := range strings.FieldsSeq(rest) {
		name, value, _ := strings.Cut(word, "=")
		i := slices.Index(names, name)
		n, err := parseInt(value, 32)
		switch {
		case i < 0, value != "max" && (err != nil || n < 0):
			return syscall.EINVAL
		case value != "max":
			value = strconv.FormatInt(n, 10)
		}
		values[i] = value
	}
	if !slices.Contains(g.m.cfg.RDMA, dev) {
		return syscall.ENODEV
	}
	g.setText("rdma.max", setLine(g.text("rdma.max"), dev, "hca_handle="+values[0]+" hca_object="+values[1]))
	return nil
}
