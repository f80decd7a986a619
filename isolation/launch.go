// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"fmt"
	"os"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/namespaces"
)

// compile turns l into the clone program. done closes what only the start
// needs.
func (l *Launch) compile(low *sys.LowFDs) (p *launch.Program, done func(), err error) {
	s, free, err := l.lower(low)
	if err != nil {
		return nil, nil, err
	}
	if p, err = launch.CompileAnnounced(s, l.announce); err != nil {
		free()
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return p, func() { _ = p.Close(); free() }, nil
}

// lower is l in the words of internal/launch.
func (l *Launch) lower(low *sys.LowFDs) (s launch.Spec, done func(), err error) {
	files, done, err := l.files(low)
	if err != nil {
		return s, nil, err
	}
	s = launch.Spec{
		Path: l.Path, Args: l.Args, Env: l.Env, Dir: l.Dir, Files: files,
		Namespaces: launch.Namespaces(l.New.Flags()),
		UIDMaps:    idMaps(l.UIDMap), GIDMaps: idMaps(l.GIDMap),
		Monotonic: l.Monotonic, Boottime: l.Boottime,
		Hostname: l.Hostname, Loopback: l.Loopback,
		Setsid:     true, // signals of the caller's terminal are not the sandbox's
		NoNewPrivs: !l.NewPrivileges,
	}
	if l.UnifiedFD >= 0 {
		s.Cgroup = &launch.File{FD: l.UnifiedFD, Path: "cgroup"}
	}
	s.Tasks = tasks(l.TaskFDs)
	for _, ns := range l.Join {
		if l.bornIn(ns) {
			continue
		}
		s.Join = append(s.Join, launch.Join{
			File: launch.File{FD: ns.FD(), Path: ns.String()}, Kind: launch.Namespaces(ns.Kind().Flag()),
		})
	}
	if l.entered != nil {
		first := launch.File{FD: l.entered.Int(), Path: "the first process"}
		// An ordinary user may enter the pid namespace once he is in that of the users.
		for _, kinds := range [2]launch.Namespaces{
			launch.Namespaces(l.entering.Flags()) &^ launch.NewPID, launch.Namespaces(l.entering.Flags()) & launch.NewPID,
		} {
			if kinds != 0 {
				s.Join = append(s.Join, launch.Join{File: first, Kind: kinds})
			}
		}
	}
	s.Unmounts = l.Unmounts
	if l.slave {
		s.Propagation = launch.Slave
	}
	if l.root == nil {
		for _, m := range l.Mounts {
			s.Mounts = append(s.Mounts, launch.Mount(m))
		}
	} else {
		items, err := l.rootMounts(l.Mounts)
		if err != nil {
			done()
			return s, nil, err
		}
		s.Root = l.root
		s.Root.Items = items
	}
	for _, r := range l.Rlimits {
		s.Rlimits = append(s.Rlimits, launch.Rlimit{Resource: launch.Rlimits[r.Name], Soft: r.Soft, Hard: r.Hard})
	}
	// Who is nobody special on the host can neither take another identity nor
	// drop what it does not have, unless a user namespace gives it both.
	privileged := os.Geteuid() == 0
	inUser := l.New.Has(namespaces.User)
	s.Setgroups = inUser && (privileged || !l.GIDMap.Only(os.Getegid()))
	joinsUser := l.entered != nil && l.entering.Has(namespaces.User)
	if privileged || inUser || joinsUser {
		s.Credential = &launch.Credential{UID: l.User.UID, GID: l.User.GID, Groups: l.User.Groups, KeepGroups: l.keepGroups}
		if set := launch.CapSet(l.Capabilities); set != ^launch.CapSet(0) {
			s.Capabilities = &launch.Capabilities{Bounding: set, Permitted: set, Effective: set}
		}
	} else if int(l.User.UID) != os.Geteuid() || int(l.User.GID) != os.Getegid() {
		done()
		return s, nil, &UnsupportedError{
			Feature: "process.user", Reason: "taking another identity needs root or a new user namespace",
		}
	}
	if uid, known := l.owner(); known && l.Terminal {
		sys.GiveTerminal(files[0], uid)
	}
	s.Confined, s.Terminal, s.Stub = l.confined, l.Terminal, l.stub
	if l.spec != nil {
		err = l.secure(l.spec, &s)
	}
	if err != nil {
		done()
		return s, nil, err
	}
	return s, done, nil
}

// owner is the process's user as the machine counts.
func (l *Launch) owner() (uid uint32, known bool) {
	if l.spec == nil || l.spec.Namespaces.User != NamespaceNew {
		return l.User.UID, l.spec != nil
	}
	return l.spec.Namespaces.UIDMap.Outside(l.User.UID)
}

// tasks are open v1 files as internal/launch has them.
func tasks(fds []int) (list []launch.File) {
	for _, fd := range fds {
		list = append(list, launch.File{FD: fd, Path: "tasks"})
	}
	return list
}

// compile is [Launch.compile] with the driver's descriptors.
func (d *nativeDriver) compile(l *Launch) (p *launch.Program, done func(), err error) {
	if err := d.lend(l); err != nil {
		return nil, nil, err
	}
	return l.compile(d.low)
}

// lend gives l what the driver has for all: filters, and the stub where it is needed.
func (d *nativeDriver) lend(l *Launch) (err error) {
	l.filters = &d.filters
	// What is not the caller's must not find the caller's binary; see
	// internal/launch/stub.go.
	if l.root != nil || l.entered != nil || l.spec != nil && l.spec.Process.Reaper {
		l.stub, err = d.stub()
	}
	return err
}

// stub makes the stub at the first need for it.
func (d *nativeDriver) stub() (*launch.Stub, error) {
	d.stubs.Lock()
	defer d.stubs.Unlock()
	var err error
	if d.stubs.stub == nil {
		d.stubs.stub, err = launch.NewStub()
	}
	return d.stubs.stub, err
}

// bornIn reports whether the process is born in ns rather than joins it: in a
// new user namespace it has no right over those of the machine.
func (l *Launch) bornIn(ns *namespaces.Handle) bool {
	return l.New.Has(namespaces.User) && ns.Kind() == namespaces.Network
}

// start clones the process.
func (l *Launch) start(ctx context.Context, p *launch.Program) (*launch.Child, error) {
	for _, ns := range l.Join {
		if l.bornIn(ns) {
			return p.StartOn(ctx, func(birth func()) error {
				return namespaces.Do(func() error { birth(); return nil }, ns)
			})
		}
	}
	return p.Start(ctx)
}

// files are the descriptors' numbers. They are valid until done is called.
func (l *Launch) files(low *sys.LowFDs) (fds []int, done func(), err error) {
	fds = make([]int, max(3, len(l.Files)))
	for i := range fds {
		switch {
		case i < len(l.Files) && l.Files[i] != nil:
			if fds[i], err = rawFD(l.Files[i]); err != nil {
				return nil, nil, err
			}
		case i < 3:
			fds[i] = low.Null()
		default:
			fds[i] = -1
		}
	}
	return low.Lend(fds)
}

// rawFD is the descriptor as it is: Fd of a file that does not block would make it do
// so, for the caller too.
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
