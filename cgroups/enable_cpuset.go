// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"strings"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// inheritCPUSet fills cpuset.cpus and cpuset.mems of a new v1 group, which the
// kernel leaves empty so that nothing can run there, with the parent's. With
// cgroup.clone_children in the parent the kernel has done it; doing it again
// changes nothing.
func (n *node) inheritCPUSet(path string) error {
	for _, file := range [...]string{"cpuset.cpus", "cpuset.mems"} {
		value, err := inherited(n.in.dir, path, file)
		if err == nil {
			err = n.dir.WriteFile(file, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inherited is what the parent of the group at path has in file. A parent where
// it is empty is given its own parent's first: the kernel wants each set within
// the one above.
func inherited(top *kernfs.Dir, path, file string) (string, error) {
	prefix := ""
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		prefix = path[:i+1]
	}
	var buf [256]byte
	b, err := top.ReadFile(prefix+file, buf[:])
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(b))
	if value != "" || prefix == "" {
		return value, nil
	}
	value, err = inherited(top, prefix[:len(prefix)-1], file)
	if err != nil {
		return "", err
	}
	return value, top.WriteFile(prefix+file, value)
}
