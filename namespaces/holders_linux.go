// SPDX-License-Identifier: Apache-2.0

package namespaces

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/parse"
)

// Holders lists what keeps a namespace alive: threads in it, descriptors, and
// pins, of each mount namespace's once. It looks at every process, which takes as
// long as there are many, and what it says may have changed by then.
//
// A user or pid namespace also lasts as long as one that belongs to it, a process
// in a call may hold one for a moment, and so may a descriptor that is under way in
// a socket: these are not listed. Of processes that the caller may not look at the
// error, which matches [os.ErrPermission], tells how many there are; the list is
// good all the same.
func Holders(id ID) ([]Holder, error) {
	text := id.String()
	s := scan{text: text, kind: id.Kind.String(), seen: map[string]bool{}}
	if id.IsZero() || !id.Kind.valid() {
		return nil, &InvalidError{Field: "namespace", Value: text, Reason: "no id"}
	}
	names, err := readDir("/proc")
	if err != nil {
		return nil, err
	}
	denied := 0
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		switch err := s.process(pid); {
		case errors.Is(err, os.ErrPermission):
			denied++
		case err != nil && !vanished(err):
			return nil, err
		}
	}
	if denied > 0 {
		err := fmt.Errorf("%d processes could not be looked at: %w", denied, os.ErrPermission)
		return s.found, &FileError{Op: "find the holders of", Path: text, Err: err}
	}
	return s.found, nil
}

// scan is one look at all processes.
type scan struct {
	text, kind string
	seen       map[string]bool // mount namespaces
	found      []Holder
}

// process looks at one process, all that it may.
func (s *scan) process(pid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	return errors.Join(s.threads(pid, dir), s.descriptors(pid, dir), s.pins(pid, dir))
}

func (s *scan) add(how HolderKind, pid int, path string) {
	s.found = append(s.found, Holder{how, pid, path})
}

func (s *scan) threads(pid int, dir string) error {
	tids, err := readDir(dir + "/task")
	if err != nil {
		return err
	}
	for _, tid := range tids {
		ns := dir + "/task/" + tid + "/ns/" + s.kind
		to, err := os.Readlink(ns)
		if err != nil {
			if vanished(err) {
				continue
			}
			return err
		}
		if to == s.text {
			s.add(Member, pid, ns)
			continue
		}
		if to, err := os.Readlink(ns + "_for_children"); err == nil && to == s.text {
			s.add(Birth, pid, ns+"_for_children")
		}
	}
	return nil
}

// descriptors reads links alone: to look at a file itself could take for ever.
func (s *scan) descriptors(pid int, dir string) error {
	fds, err := readDir(dir + "/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if to, err := os.Readlink(dir + "/fd/" + fd); err == nil && to == s.text {
			s.add(Descriptor, pid, dir+"/fd/"+fd)
		}
	}
	return nil
}

func (s *scan) pins(pid int, dir string) error {
	mnt, err := os.Readlink(dir + "/ns/mnt")
	if err != nil || s.seen[mnt] {
		return err
	}
	f, err := os.Open(dir + "/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	s.seen[mnt] = true
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if at, ok := pinOf(lines.Text(), s.text); ok {
			s.add(Pinned, pid, at)
		}
	}
	return lines.Err()
}

// pinOf is where a line of mountinfo has the namespace mounted.
func pinOf(line, namespace string) (at string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 || f[3] != namespace {
		return "", false
	}
	return parse.Unescape(f[4]), true
}

func vanished(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

func readDir(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && vanished(err) {
		err = os.ErrNotExist
	}
	return names, err
}
