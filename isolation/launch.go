// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"fmt"
	"os"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/namespaces"
)

// compile turns l into the clone program. done closes what only the start
// needs.
func (l *Launch) compile() (p *launch.Program, done func(), err error) {
	files, null, err := l.files()
	if err != nil {
		return nil, nil, err
	}
	done = func() {
		if null != nil {
			_ = null.Close()
		}
	}
	s := launch.Spec{
		Path: l.Path, Args: l.Args, Env: l.Env, Dir: l.Dir, Files: files,
		Namespaces: launch.Namespaces(l.New.Flags()),
		UIDMaps:    idMaps(l.UIDMap), GIDMaps: idMaps(l.GIDMap),
		Hostname: l.Hostname, Loopback: l.Loopback,
		Setsid:     true, // signals of the caller's terminal are not the sandbox's
		NoNewPrivs: !l.NewPrivileges,
	}
	if l.UnifiedFD >= 0 {
		s.Cgroup = &launch.File{FD: l.UnifiedFD, Path: "cgroup"}
	}
	for _, fd := range l.TaskFDs {
		s.Tasks = append(s.Tasks, launch.File{FD: fd, Path: "tasks"})
	}
	for _, m := range l.Mounts {
		s.Mounts = append(s.Mounts, launch.Mount(m))
	}
	for _, r := range l.Rlimits {
		s.Rlimits = append(s.Rlimits, launch.Rlimit{Resource: rlimits[r.Name], Soft: r.Soft, Hard: r.Hard})
	}
	// Who is nobody special on the host can neither take another identity nor
	// drop what it does not have, unless a user namespace gives it both.
	privileged := os.Geteuid() == 0
	inUser := l.New.Has(namespaces.User)
	s.Setgroups = privileged && inUser
	if privileged || inUser {
		s.Credential = &launch.Credential{UID: l.User.UID, GID: l.User.GID, Groups: l.User.Groups}
		if set := launch.CapSet(l.Capabilities); set != ^launch.CapSet(0) {
			s.Capabilities = &launch.Capabilities{Bounding: set, Permitted: set, Effective: set}
		}
	} else if int(l.User.UID) != os.Geteuid() || int(l.User.GID) != os.Getegid() {
		done()
		return nil, nil, &UnsupportedError{
			Feature: "process.user", Reason: "taking another identity needs root or a new user namespace",
		}
	}
	if p, err = launch.Compile(s); err != nil {
		done()
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return p, done, nil
}

// files are the descriptors' numbers; null, which is nil if not needed, stands in
// for nil files.
func (l *Launch) files() (fds []int, null *os.File, err error) {
	fds = make([]int, max(3, len(l.Files)))
	for i := range fds {
		var f *os.File
		if i < len(l.Files) {
			f = l.Files[i]
		}
		if f == nil && i < 3 {
			if null == nil {
				if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
					return nil, nil, err
				}
			}
			f = null
		}
		if f == nil {
			fds[i] = -1
			continue
		}
		// Fd of a file that is not blocking would make it so for the caller
		// too; the raw descriptor is read without that.
		if fds[i], err = rawFD(f); err != nil {
			if null != nil {
				err = errors.Join(err, null.Close())
			}
			return nil, nil, err
		}
	}
	return fds, null, nil
}

func rawFD(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	var n int
	err = conn.Control(func(fd uintptr) { n = int(fd) })
	return n, err
}

func idMaps(maps namespaces.IDMaps) []launch.IDMap {
	var out []launch.IDMap
	for _, m := range maps {
		out = append(out, launch.IDMap(m))
	}
	return out
}
