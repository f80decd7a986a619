// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/bpf"
)

// egressName is how the names of our programs begin that set priorities. The kernel
// keeps 15 bytes: these, and up to eight digits.
const egressName = "cais_p_"

// SetEgressPriority gives the packets that the processes of the group and of the groups
// below send the priority n, that of SO_PRIORITY in socket(7), whatever they have
// chosen. What it does is up to the queue that they come to. The priority ends at a
// veth, so it counts where the processes share the network of the machine.
//
// It is a BPF program in the group's directory of the unified tree, in every mode, and
// goes with the group; programs of others stay beside it. A priority that is set already is nil.
// Before Linux 5.15 the kernel does without it once somebody has used net_cls or
// net_prio of v1.
//
// The error matches [ErrNotSupported] without a unified tree or such programs, and
// [os.ErrPermission] without CAP_BPF and CAP_NET_ADMIN, or where a group above has a
// program that allows none beside it.
//
// Linux 4.15, for several programs (BPF_F_ALLOW_MULTI).
func (c *Cgroup) SetEgressPriority(n uint32) error {
	node := c.unified()
	if node == nil || c.root.fake != nil {
		return &UnsupportedError{Feature: "egress priority", Reason: "there is no unified tree", Err: c.root.noUnified}
	}
	failed := func(err error) error {
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) {
			return &UnsupportedError{Feature: "egress priority", Reason: "this kernel has no such programs", Err: err}
		}
		return &FileError{Op: fmt.Sprintf("set egress priority %d of", n), Path: node.dir.Path(), Err: err}
	}
	found, err := bpf.Attached(bpf.CgroupEgress, node.dir.FD())
	if err != nil {
		return failed(err)
	}
	defer found.Close()
	name := fmt.Sprintf("%s%x", egressName, n)
	var old *bpf.Program
	for _, p := range found.Programs {
		switch {
		case p.Name == name:
			return nil
		case strings.HasPrefix(p.Name, egressName):
			old = p
		}
	}
	p, err := bpf.Load(bpf.CgroupEgress, name, bpf.EgressPriority(n))
	if err != nil {
		return failed(err)
	}
	defer p.Close()
	if err := bpf.Add(bpf.CgroupEgress, node.dir.FD(), p); err != nil {
		return failed(err)
	}
	if old == nil {
		return nil
	}
	// The later one has the last word.
	if err := bpf.Remove(bpf.CgroupEgress, node.dir.FD(), old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(err)
	}
	return nil
}
