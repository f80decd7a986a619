// SPDX-License-Identifier: Apache-2.0

package namespaces

import "github.com/caisson-run/caisson/internal/linux"

// Create makes a namespace and holds it. Nobody is in it: it lasts as long as
// the handle, a pin or a process that joined. The calling thread stays where it
// is.
//
// kind is [Network], [IPC], [UTS] or [Cgroup]; of the others the first process
// has to be born inside, which is [*UnsupportedError]. The new namespace belongs
// to the caller's user namespace. Errors: [os.ErrPermission] without
// CAP_SYS_ADMIN, ENOSPC above a limit of /proc/sys/user.
//
// unshare(2).
func Create(kind Kind) (*Handle, error) {
	if err := checkKind(kind); err != nil {
		return nil, err
	}
	if !KindsOf(Network, IPC, UTS, Cgroup).Has(kind) {
		return nil, &UnsupportedError{Feature: "create " + kind.String() + " namespace",
			Reason: "it begins with a process that is born in it"}
	}
	home, err := Current(kind)
	if err != nil {
		return nil, err
	}
	defer home.Close()
	var made *Handle
	onThread(func() (clean bool) {
		if err = linux.Unshare(int(kind.Flag())); err != nil {
			err = &FileError{Op: "create", Path: kind.String() + " namespace", Err: err}
			return true
		}
		made, err = Current(kind)
		// A thread that cannot go back ends; the namespace is made all the same.
		return linux.Setns(home.FD(), int(kind.Flag())) == nil
	})
	return made, err
}
