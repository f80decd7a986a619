// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The kernel's sizes.
const (
	maxInsns    = 4096    // BPF_MAXINSNS
	maxHostname = 64      // __NEW_UTS_LEN
	maxMaps     = 340     // lines of a uid_map, Linux 4.15
	maxGroups   = 65536   // NGROUPS_MAX
	maxArgs     = 6 << 20 // argv and envp never get more than 3/4 of _STK_LIM
	maxArgLen   = 32<<12 - 1
	maxOffset   = 1<<62 - 1
)

var (
	errNUL      = errors.New("holds a NUL byte")
	errEmpty    = errors.New("is empty")
	errNegative = errors.New("is not a descriptor")
)

// Validate reports the first field that no kernel would accept, or that would
// change the caller's own namespaces, as a *[SpecError]. It does no I/O.
func (s *Spec) Validate() error {
	for _, check := range []func(*Spec) error{
		(*Spec).checkProgram, (*Spec).checkFiles, (*Spec).checkNamespaces,
		(*Spec).checkMaps, (*Spec).checkSetup, (*Spec).checkRoot, (*Spec).checkCalls, (*Spec).checkPrivileges,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func bad(field string, value any, err error) error {
	return &SpecError{Field: field, Value: value, Err: err}
}

func checkString(field, v string) error {
	if strings.IndexByte(v, 0) >= 0 {
		return bad(field, v, errNUL)
	}
	return nil
}

// checkStringAt is checkString for an item of a list: a name is made of it only
// if something is wrong.
func checkStringAt(list string, i int, v string) error {
	if strings.IndexByte(v, 0) >= 0 {
		return bad(at(list, i), v, errNUL)
	}
	return nil
}

func at(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

func (s *Spec) checkProgram() error {
	switch {
	case s.Path == "":
		return bad("Path", s.Path, errEmpty)
	case !strings.Contains(s.Path, "/"):
		return bad("Path", s.Path, errors.New("has no slash: PATH is not searched"))
	case s.Args != nil && len(s.Args) == 0:
		return bad("Args", s.Args, errors.New("has no argv[0]"))
	}
	for _, f := range []struct{ name, value string }{{"Path", s.Path}, {"Dir", s.Dir}} {
		if err := checkString(f.name, f.value); err != nil {
			return err
		}
	}
	total := 0
	for _, list := range []struct {
		name  string
		items []string
	}{{"Args", s.Args}, {"Env", s.Env}} {
		for i, v := range list.items {
			if len(v) > maxArgLen {
				return bad(at(list.name, i), len(v), fmt.Errorf("longer than %d bytes: %w", maxArgLen, syscall.E2BIG))
			}
			if err := checkStringAt(list.name, i, v); err != nil {
				return err
			}
			total += len(v) + 1 + 8 // the string and its pointer
		}
	}
	if total > maxArgs {
		return bad("Args and Env", total, fmt.Errorf("more than %d bytes: %w", maxArgs, syscall.E2BIG))
	}
	return nil
}

func (s *Spec) checkFiles() error {
	for i, fd := range s.Files {
		if fd < -1 || fd > math.MaxInt32 {
			return bad(at("Files", i), fd, errNegative)
		}
	}
	if c := s.Cgroup; c != nil && (c.FD < 0 || c.FD > math.MaxInt32) {
		return bad("Cgroup", c.FD, errNegative)
	}
	if t := s.Ticket; t != nil && (t.FD < 0 || t.FD > math.MaxInt32) {
		return bad("Ticket", t.FD, errNegative)
	}
	if a := s.OOMScoreAdj; a != nil && (*a < -1000 || *a > 1000) {
		return bad("OOMScoreAdj", *a, errors.New("is not in -1000 to 1000"))
	}
	for i, t := range s.Tasks {
		if t.FD < 0 || t.FD > math.MaxInt32 {
			return bad(at("Tasks", i), t.FD, errNegative)
		}
	}
	return nil
}

func (s *Spec) checkNamespaces() error {
	if extra := s.Namespaces &^ allNamespaces; extra != 0 {
		return bad("Namespaces", extra, errors.New("is no kind of namespace"))
	}
	for i, j := range s.Join {
		var wrong string
		switch {
		case j.FD < 0 || j.FD > math.MaxInt32:
			return bad(at("Join", i), j.FD, errNegative)
		case j.Kind&allNamespaces != j.Kind || j.Kind == 0:
			wrong = "is no kind of namespace"
		case j.Kind&NewTime != 0:
			wrong = "setns wants a process that shares its memory with nobody"
		case j.Kind&NewPID != 0 && j.Kind != NewPID:
			wrong = "a pid namespace is entered by birth, by itself"
		case j.Kind == NewPID && s.Namespaces&NewUser != 0:
			wrong = "is not entered from a new user namespace"
		case j.Kind&s.Namespaces != 0:
			wrong = "is also in Namespaces"
		}
		if wrong != "" {
			return bad(at("Join", i), j.Kind, errors.New(wrong))
		}
	}
	for _, o := range []struct {
		field string
		d     time.Duration
	}{{"Monotonic", s.Monotonic}, {"Boottime", s.Boottime}} {
		if o.d > maxOffset || o.d < -maxOffset {
			return bad(o.field, o.d, errors.New("is out of the range of a clock"))
		}
	}
	for _, n := range []struct {
		field string
		given bool
		ns    Namespaces
		name  string
	}{
		{"Monotonic or Boottime", s.Monotonic != 0 || s.Boottime != 0, NewTime, "NewTime"},
		{"Hostname or Domainname", s.Hostname != "" || s.Domainname != "", NewUTS, "NewUTS"},
		{"Unmounts", len(s.Unmounts) > 0, NewMount, "NewMount"},
		{"Mounts", len(s.Mounts) > 0, NewMount, "NewMount"},
		{"Propagation", s.Propagation != Private, NewMount, "NewMount"},
		{"Loopback", s.Loopback, NewNet, "NewNet"},
		{"UIDMaps", len(s.UIDMaps) > 0, NewUser, "NewUser"},
		{"GIDMaps", len(s.GIDMaps) > 0, NewUser, "NewUser"},
		{"Setgroups", s.Setgroups, NewUser, "NewUser"},
	} {
		if n.given && s.Namespaces&n.ns == 0 {
			return bad(n.field, n.given, errors.New("needs "+n.name+" in Namespaces"))
		}
	}
	return nil
}

func (s *Spec) checkMaps() error {
	if s.Namespaces&NewUser == 0 {
		return nil
	}
	for _, m := range []struct {
		name string
		maps []IDMap
	}{{"UIDMaps", s.UIDMaps}, {"GIDMaps", s.GIDMaps}} {
		if len(m.maps) == 0 || len(m.maps) > maxMaps {
			return bad(m.name, len(m.maps), fmt.Errorf("a new user namespace takes 1 to %d lines", maxMaps))
		}
		for i, l := range m.maps {
			end := uint64(math.MaxUint32) // 4294967295 is "no id"
			if l.Count == 0 || uint64(l.Inside)+uint64(l.Count) > end || uint64(l.Outside)+uint64(l.Count) > end {
				return bad(at(m.name, i), l, errors.New("is an empty or impossible range"))
			}
			for _, o := range m.maps[:i] {
				if overlap(l.Inside, o.Inside, l.Count, o.Count) || overlap(l.Outside, o.Outside, l.Count, o.Count) {
					return bad(at(m.name, i), l, fmt.Errorf("overlaps %v", o))
				}
			}
		}
	}
	c := s.credential()
	if !mapped(s.UIDMaps, c.UID) {
		return bad("Credential.UID", c.UID, errors.New("is not in UIDMaps"))
	}
	if !mapped(s.GIDMaps, c.GID) {
		return bad("Credential.GID", c.GID, errors.New("is not in GIDMaps"))
	}
	return nil
}

func overlap(a, b, n, m uint32) bool {
	return uint64(a) < uint64(b)+uint64(m) && uint64(b) < uint64(a)+uint64(n)
}

func mapped(maps []IDMap, id uint32) bool {
	for _, m := range maps {
		if id >= m.Inside && id-m.Inside < m.Count {
			return true
		}
	}
	return false
}

// credential is what the child runs as, or nil to stay.
func (s *Spec) credential() *Credential {
	if s.Credential == nil && s.Namespaces&NewUser != 0 {
		return &Credential{}
	}
	return s.Credential
}

// joins reports whether an existing namespace of this kind is entered.
func (s *Spec) joins(kind Namespaces) bool {
	return slices.ContainsFunc(s.Join, func(j Join) bool { return j.Kind == kind })
}

func (s *Spec) checkSetup() error {
	if s.Propagation > Slave {
		return bad("Propagation", s.Propagation, errors.New("is neither Private nor Slave"))
	}
	for _, f := range []struct{ name, value string }{{"Hostname", s.Hostname}, {"Domainname", s.Domainname}} {
		if len(f.value) > maxHostname {
			return bad(f.name, f.value, fmt.Errorf("longer than %d bytes", maxHostname))
		}
		if err := checkString(f.name, f.value); err != nil {
			return err
		}
	}
	for i, path := range s.Unmounts {
		if path == "" {
			return bad(at("Unmounts", i), path, errEmpty)
		}
		if err := checkStringAt("Unmounts", i, path); err != nil {
			return err
		}
	}
	for i, m := range s.Mounts {
		if m.Target == "" {
			return bad(at("Mounts", i)+".Target", m.Target, errEmpty)
		}
		if len(m.Data) >= 4096 {
			return bad(at("Mounts", i)+".Data", len(m.Data), errors.New("longer than a page"))
		}
		for _, v := range []string{m.Source, m.Target, m.Type, m.Data} {
			if err := checkStringAt("Mounts", i, v); err != nil {
				return err
			}
		}
	}
	for i, w := range s.Writes {
		if w.Path == "" {
			return bad(at("Writes", i)+".Path", w.Path, errEmpty)
		}
		if strings.IndexByte(w.Path, 0) >= 0 {
			return bad(at("Writes", i)+".Path", w.Path, errNUL)
		}
	}
	return nil
}

func (s *Spec) checkCalls() error {
	for i, c := range s.Calls {
		switch {
		case len(c.Args) > 6:
			return bad(at("Calls", i), len(c.Args), errors.New("has more than six arguments"))
		case c.At > Last:
			return bad(at("Calls", i), c.At, errors.New("is at no Point"))
		case c.Name == "":
			return bad(at("Calls", i), c.Name, errors.New("has no Name"))
		}
	}
	return nil
}

func (s *Spec) checkPrivileges() error {
	switch {
	case s.Reaper && (s.Stub == nil || s.Namespaces&NewPID == 0 && !s.joins(NewPID)):
		return bad("Reaper", true, errors.New("needs Stub, and a pid namespace that is new or joined"))
	case s.Terminal && !s.Setsid:
		return bad("Terminal", true, errors.New("needs Setsid"))
	case s.Terminal && s.Files != nil && (len(s.Files) == 0 || s.Files[0] < 0):
		return bad("Terminal", true, errors.New("needs Files[0]"))
	case s.Umask != nil && *s.Umask > 0o777:
		return bad("Umask", *s.Umask, errors.New("has bits beyond 0777"))
	}
	for i, r := range s.Rlimits {
		if r.Resource < 0 || r.Resource > 15 {
			return bad(at("Rlimits", i), r.Resource, errors.New("is no resource"))
		}
		if r.Soft > r.Hard {
			return bad(at("Rlimits", i), r, errors.New("has Soft above Hard"))
		}
	}
	if c := s.Credential; c != nil {
		for _, id := range append([]uint32{c.UID, c.GID}, c.Groups...) {
			if id == math.MaxUint32 {
				return bad("Credential", *c, errors.New("4294967295 means no change, it is no id"))
			}
		}
		switch {
		case len(c.Groups) > maxGroups:
			return bad("Credential.Groups", len(c.Groups), fmt.Errorf("more than %d", maxGroups))
		case len(c.Groups) > 0 && c.KeepGroups:
			return bad("Credential.Groups", c.Groups, errors.New("are to be kept"))
		case len(c.Groups) > 0 && s.Namespaces&NewUser != 0 && !s.Setgroups:
			return bad("Credential.Groups", c.Groups, errors.New("needs Setgroups in a user namespace"))
		}
	}
	for i, r := range s.FileRules {
		if r.Path == "" || strings.IndexByte(r.Path, 0) >= 0 {
			return bad(at("FileRules", i)+".Path", r.Path, errNUL)
		}
		if !r.Read && !r.Write && !r.Execute {
			return bad(at("FileRules", i), r.Path, errors.New("allows nothing"))
		}
	}
	if n := len(s.Seccomp); n%8 != 0 || n/8 > maxInsns {
		return bad("Seccomp", n, fmt.Errorf("is not whole instructions of eight bytes, or more than %d", maxInsns))
	}
	if c := s.Capabilities; c != nil {
		switch {
		case c.Effective&^c.Permitted != 0:
			return bad("Capabilities.Effective", c.Effective, errors.New("exceeds Permitted"))
		case c.Ambient&^(c.Permitted&c.Inheritable) != 0:
			return bad("Capabilities.Ambient", c.Ambient, errors.New("exceeds Permitted and Inheritable"))
		}
	}
	return nil
}
