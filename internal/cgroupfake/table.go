// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import "strings"

// table is the files that groups of the tree may have.
func (t *tree) table() map[string]*kind {
	all := t.coreKinds()
	for _, c := range t.has.list() {
		switch c {
		case cpu:
			all = append(all, t.cpuKinds()...)
		case cpuacct:
			all = append(all, t.cpuacctKinds()...)
		case cpuset:
			all = append(all, t.cpusetKinds()...)
		case memory:
			all = append(all, t.memoryKinds()...)
		case io:
			all = append(all, t.ioKinds()...)
		case pids:
			all = append(all, t.pidsKinds()...)
		case hugetlb:
			all = append(all, t.hugetlbKinds()...)
		case rdma:
			all = append(all, t.rdmaKinds()...)
		case misc:
			all = append(all, t.miscKinds()...)
		case devices:
			all = append(all, t.devicesKinds()...)
		case freezer:
			all = append(all, t.freezerKinds()...)
		case core, numCtls:
		}
	}
	byName := make(map[string]*kind, len(all))
	for i := range all {
		if !t.m.lacks(all[i].name) {
			byName[all[i].name] = &all[i]
		}
	}
	return byName
}

// since leaves the kinds out on older kernels.
func (t *tree) since(major, minor int, kinds ...kind) []kind {
	if t.m.cfg.Kernel.before(major, minor) {
		return nil
	}
	return kinds
}

// shows is a kind that cannot be written and has no text of its own.
func shows(name string, c ctl, w where, show func(g *group) string) kind {
	return kind{name: name, ctl: c, where: w, log: true, show: func(g *group) (string, error) { return show(g), nil }}
}

// keeps is a kind that holds what check makes of the data.
func keeps(name string, c ctl, init string, check func(g *group, data string) (string, error)) kind {
	return kind{name: name, ctl: c, where: notTop, init: init, store: func(g *group, data string) error {
		text, err := check(g, data)
		if err == nil {
			g.setText(name, text)
		}
		return err
	}}
}

// counter is a line "name value" for each.
func counters(pairs ...any) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.WriteString(pairs[i].(string))
		b.WriteByte(' ')
		b.WriteString(bytes(pairs[i+1].(uint64)))
		b.WriteByte('\n')
	}
	return b.String()
}
