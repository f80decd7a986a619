// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
	"github.com/caisson-run/caisson/internal/sys"
)

// bornElsewhere opens the group's cgroup.procs where a child must not be born in
// the group but move there itself, and returns nil where it may be.
//
// Kernels from 5.7 on do not give a process born by CLONE_INTO_CGROUP the CPUs
// and memory nodes of the group's cpuset: it runs on its parent's. This was
// mended by 42a11bf5c543 ("cgroup/cpuset: Make cpuset_fork() handle
// CLONE_INTO_CGROUP properly", Linux 6.4) and in some older stable releases. To
// ask the kernel would take such a child, so older releases are taken at their
// number; the price there is the lock that a move takes, and only groups with
// fewer CPUs than the parent pay it.
func (n *node) bornElsewhere(parent int) (*kernfs.File, error) {
	old, err := sys.ReleaseBefore(6, 4)
	if err != nil || !old {
		return nil, err
	}
	text, err := n.effectiveAbove()
	if err != nil || text == nil {
		return nil, n.failed(err)
	}
	cpus, err := ParseSet(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, &FileError{Op: "parse", Path: n.dir.Join("cpuset.cpus.effective"), Data: string(text), Err: err}
	}
	var group sys.CPUMask
	for cpu := range cpus.Each {
		group.Set(cpu)
	}
	caller, err := sys.Affinity(cmp.Or(parent, os.Getpid()))
	if errors.Is(err, syscall.ESRCH) {
		caller, err = group, nil // a parent that has ended has no child any more, as its caller will find
	}
	if err != nil || caller.Within(&group) {
		return nil, err
	}
	f, err := n.dir.Open("cgroup.procs", os.O_WRONLY)
	return f, n.failed(err)
}

// effectiveAbove is the cpuset.cpus.effective of the group or, if it is not under
// cpuset, of the nearest above it that is; nil if none can be seen.
func (n *node) effectiveAbove() (text []byte, err error) {
	const file = "cpuset.cpus.effective"
	text, err = n.dir.ReadFile(file, nil)
	for p := n.path; errors.Is(err, fs.ErrNotExist) && !n.gone(); {
		if p == "." {
			return nil, nil
		}
		p = path.Dir(p)
		text, err = n.in.dir.ReadFile(path.Join(p, file), nil)
	}
	return text, err
}
