// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"strconv"
	"syscall"
)

// hugeName is how files call a size of huge pages.
func hugeName(size uint64) string {
	switch {
	case size >= 1<<30:
		return strconv.FormatUint(size>>30, 10) + "GB"
	case size >= 1<<20:
		return strconv.FormatUint(size>>20, 10) + "MB"
	}
	return strconv.FormatUint(size>>10, 10) + "KB"
}

// hugetlbKinds are the files of hugetlb (mm/hugetlb_cgroup.c).
func (t *tree) hugetlbKinds() []kind {
	var kinds []kind
	for i, size := range t.m.cfg.HugePages {
		for _, rsvd := range []string{"", ".rsvd"} {
			prefix := "hugetlb." + hugeName(size) + rsvd + "."
			used := func(g *group) uint64 {
				if i != 0 || rsvd != "" {
					return 0
				}
				return g.sum(func(w *work) uint64 { return w.Huge })
			}
			show := func(g *group) string { return bytes(used(g)) }
			if t.v2 {
				kinds = append(kinds,
					kind{name: prefix + "max", ctl: hugetlb, where: notTop, init: t.hugeMax(), store: storeHuge(prefix+"max", "max", size, used)},
					shows(prefix+"current", hugetlb, notTop, show))
				continue
			}
			kinds = append(kinds,
				kind{name: prefix + "limit_in_bytes", ctl: hugetlb, initF: func(g *group) string { return g.m.bytesV1(noLimit, size) },
					store: storeHuge(prefix+"limit_in_bytes", "-1", size, used)},
				shows(prefix+"usage_in_bytes", hugetlb, everywhere, show),
				shows(prefix+"failcnt", hugetlb, everywhere, func(g *group) string { return bytes(g.work.hugeFails) }))
		}
		if t.v2 {
			kinds = append(kinds, shows("hugetlb."+hugeName(size)+".events", hugetlb, notTop, func(g *group) string {
				return counters("max", g.work.hugeFails)
			}))
		}
	}
	return kinds
}

// hugeMax is an unlimited v2 limit that was never written to: the word, but for
// newer kernels, which show the largest counter unrounded.
func (t *tree) hugeMax() string {
	if t.m.cfg.Kernel.before(6, 13) {
		return "max"
	}
	return bytes(t.m.mostPages() * t.m.cfg.PageSize)
}

func storeHuge(name, word string, size uint64, used func(*group) uint64) func(*group, string) error {
	return func(g *group, data string) error {
		n, err := g.m.parsePages(data, word, size)
		switch {
		case err != nil:
			return err
		case g.isTop():
			return syscall.EINVAL
		case n < used(g):
			return syscall.EBUSY
		}
		text := bytes(n)
		if !g.v2 {
			text = g.m.bytesV1(n, size)
		}
		g.setText(name, text)
		return nil
	}
}
