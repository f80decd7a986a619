// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import "math/bits"

// ctl is a controller.
type ctl uint8

const (
	core ctl = iota // the files of every group
	cpu
	cpuacct
	cpuset
	memory
	io
	pids
	hugetlb
	rdma
	misc
	devices
	freezer
	numCtls
)

var ctlNames = [numCtls]string{
	"", "cpu", "cpuacct", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc", "devices", "freezer",
}

func (c ctl) nameV1() string { return c.name(false) }

func (c ctl) name(v2 bool) string {
	if c == io && !v2 {
		return "blkio"
	}
	return ctlNames[c]
}

// ctls is a set of controllers.
type ctls uint16

func ctlsOf(cs ...ctl) (s ctls) {
	for _, c := range cs {
		s |= 1 << c
	}
	return s
}

func (s ctls) has(c ctl) bool { return c == core || s&(1<<c) != 0 }

func (s ctls) list() []ctl {
	out := make([]ctl, 0, bits.OnesCount16(uint16(s)))
	for c := core + 1; c < numCtls; c++ {
		if s.has(c) {
			out = append(out, c)
		}
	}
	return out
}

var (
	ctlsV1   = ctlsOf(cpu, cpuacct, cpuset, memory, io, pids, hugetlb, rdma, misc, devices, freezer)
	ctlsV2   = ctlsOf(cpu, cpuset, memory, io, pids, hugetlb, rdma, misc)
	threaded = ctlsOf(cpu, cpuset, pids) // can be enabled beside processes
)

// orderV2 is the order of cgroup.controllers.
var orderV2 = [...]ctl{cpuset, cpu, io, memory, hugetlb, pids, rdma, misc}

// text is the set as cgroup.controllers shows it.
func (s ctls) text() string {
	out := ""
	for _, c := range orderV2 {
		if s.has(c) {
			if out != "" {
				out += " "
			}
			out += c.name(true)
		}
	}
	return out
}

func ctlNamed(name string) (ctl, bool) {
	for _, c := range orderV2 {
		if c.name(true) == name {
			return c, true
		}
	}
	return 0, false
}
