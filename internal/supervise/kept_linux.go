// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/sys"
)

// keep keeps copies of the descriptors of a message, in the place of those that it
// has by that name; none at all are the end of it.
func (s *server) keep(m *message) (err error) {
	refuse := func(format string, args ...any) error {
		return &Refusal{fmt.Errorf(format+": %w", append(args, unix.EINVAL)...)}
	}
	switch {
	case !validWord(m.Name, maxName):
		return refuse("%q is no name for descriptors", clip(m.Name))
	case len(m.Files) > maxKept:
		return refuse("more than %d descriptors by one name", maxKept)
	case slices.Contains(m.Files, -1):
		return refuse("no descriptor")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.kept[m.ID]
	old, had := names[m.Name]
	switch {
	case len(m.Files) > 0 && !had && len(names) == maxNames:
		return refuse("more than %d names for one id", maxNames)
	case s.total-len(old)+len(m.Files) > s.most:
		return &Refusal{fmt.Errorf("%d descriptors are kept: %w", s.total, unix.EMFILE)}
	}
	files := make([]*sys.FD, len(m.Files))
	for i, fd := range m.Files { // one of them may be there twice
		if files[i], err = dup(fd); err != nil {
			return errors.Join(err, closeFDs(files[:i]))
		}
	}
	s.total += len(files) - len(old)
	delete(names, m.Name)
	if len(files) > 0 {
		if names == nil {
			names = make(map[string][]*sys.FD)
			s.kept[m.ID] = names
		}
		names[m.Name] = files
	}
	if len(names) == 0 {
		delete(s.kept, m.ID)
	}
	return closeFDs(old)
}

func dup(fd int) (*sys.FD, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return sys.NewFD(n), nil
}

func closeFDs(files []*sys.FD) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// giveBack puts copies of what is kept by a name into the reply.
func (s *server) giveBack(m *message, reply *message) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done = func() { closeAll(reply.Files) }
	for _, f := range s.kept[m.ID][m.Name] {
		copied, err := unix.FcntlInt(uintptr(f.Int()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(reply.Files)
			reply.Files = nil
			return done, os.NewSyscallError("dup", err)
		}
		reply.Files = append(reply.Files, copied)
	}
	return done, nil
}

// drop closes all that is kept for an id. The caller holds mu.
func (s *server) drop(id string) error {
	var errs []error
	for _, files := range s.kept[id] {
		errs = append(errs, closeFDs(files))
		s.total -= len(files)
	}
	delete(s.kept, id)
	return errors.Join(errs...)
}
