// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Groups are all cgroup directories whose path has this name in it, in every
// tree below /sys/fs/cgroup.
func Groups(name string) (list []string, err error) {
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, name) {
			list = append(list, path)
		}
		return nil // a group that was removed meanwhile
	})
	return list, err
}

// RemoveGroups removes the groups that a runtime leaves, once its last helpers
// have ended.
func RemoveGroups(name string) error {
	var errs []error
	late := await("end of what is in "+name, func() bool {
		list, err := Groups(name)
		errs = []error{err}
		busy := false
		for _, dir := range slices.Backward(list) {
			err := syscall.Rmdir(dir)
			if err != nil && err != syscall.ENOENT {
				errs = append(errs, &os.PathError{Op: "rmdir", Path: dir, Err: err})
			}
			busy = busy || err == syscall.EBUSY
		}
		return !busy
	})
	return errors.Join(append(errs, late)...)
}
