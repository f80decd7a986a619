// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Steps lists the program in words, clone3 first, as [StepError] counts them.
func (p *Program) Steps() []Step {
	steps := make([]Step, len(p.steps)) // the exit_group that ends the list makes room for clone3
	for i := range steps {
		steps[i].Text = p.text(i)
		if i > 0 {
			steps[i].Optional = p.steps[i-1].flags&flagOptional != 0
		}
	}
	return steps
}

// String is Steps, a line each.
func (p *Program) String() string {
	var b strings.Builder
	for i, s := range p.Steps() {
		fmt.Fprintf(&b, "%2d %s", i, s.Text)
		if s.Optional {
			b.WriteString(" (may fail)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// How an argument prints.
const (
	decimal = iota
	hex
	octal
	str    // NUL terminated
	buf    // its length is the next argument
	opaque // a structure
	file   // a descriptor
	sigName
	option // of prctl
	space  // a kind of namespace
	rlimit // its number
	limits // a soft and a hard one
)

var options = map[uint64]string{
	unix.PR_SET_DUMPABLE: "PR_SET_DUMPABLE", unix.PR_CAPBSET_DROP: "PR_CAPBSET_DROP",
	unix.PR_SET_KEEPCAPS: "PR_SET_KEEPCAPS", unix.PR_SET_NO_NEW_PRIVS: "PR_SET_NO_NEW_PRIVS",
	unix.PR_CAP_AMBIENT: "PR_CAP_AMBIENT", unix.PR_SCHED_CORE: "PR_SCHED_CORE",
	unix.KEYCTL_JOIN_SESSION_KEYRING: "KEYCTL_JOIN_SESSION_KEYRING",
}

var spaces = map[uint64]string{
	uint64(NewTime): "NEWTIME", uint64(NewMount): "NEWNS", uint64(NewCgroup): "NEWCGROUP", uint64(NewUTS): "NEWUTS",
	uint64(NewIPC): "NEWIPC", uint64(NewPID): "NEWPID", uint64(NewUser): "NEWUSER", uint64(NewNet): "NEWNET",
}

// calls names the system calls that programs use, and says how to print them.
// Arguments beyond those listed are fixed and not worth printing.
var calls = map[uint64]struct {
	name string
	args []int
}{
	unix.SYS_READ:                    {"read", []int{file}},
	unix.SYS_WRITE:                   {"write", []int{file, buf}},
	unix.SYS_OPENAT:                  {"open", []int{-1, str, hex}},
	unix.SYS_CLOSE:                   {"close", []int{file}},
	unix.SYS_UNSHARE:                 {"unshare", []int{space}},
	unix.SYS_SETNS:                   {"setns", []int{file, space}},
	unix.SYS_SETHOSTNAME:             {"sethostname", []int{buf}},
	unix.SYS_SETDOMAINNAME:           {"setdomainname", []int{buf}},
	unix.SYS_MOUNT:                   {"mount", []int{str, str, str, hex, str}},
	unix.SYS_UMOUNT2:                 {"umount", []int{str, hex}},
	unix.SYS_SOCKET:                  {"socket", []int{decimal, hex, decimal}},
	unix.SYS_IOCTL:                   {"ioctl", []int{file, hex}},
	unix.SYS_SETSID:                  {"setsid", nil},
	unix.SYS_FCNTL:                   {"fcntl", []int{file, decimal, decimal}},
	unix.SYS_DUP3:                    {"dup3", []int{file, decimal}},
	unix.SYS_CLOSE_RANGE:             {"close_range", []int{decimal, decimal}},
	unix.SYS_UMASK:                   {"umask", []int{octal}},
	unix.SYS_PRLIMIT64:               {"prlimit", []int{-1, rlimit, limits}},
	unix.SYS_PRCTL:                   {"prctl", []int{option, decimal, decimal}},
	unix.SYS_SETGROUPS:               {"setgroups", []int{decimal, opaque}},
	unix.SYS_SETRESGID:               {"setresgid", []int{decimal, decimal, decimal}},
	unix.SYS_SETRESUID:               {"setresuid", []int{decimal, decimal, decimal}},
	unix.SYS_CHDIR:                   {"chdir", []int{str}},
	unix.SYS_CAPSET:                  {"capset", []int{-1, opaque}},
	unix.SYS_RT_SIGACTION:            {"sigaction", []int{sigName}},
	unix.SYS_RT_SIGTIMEDWAIT:         {"sigtimedwait", []int{opaque}},
	unix.SYS_RT_SIGPROCMASK:          {"sigprocmask", []int{-1, opaque}},
	unix.SYS_EXECVE:                  {"execve", []int{str}},
	unix.SYS_SCHED_SETAFFINITY:       {"sched_setaffinity", []int{decimal, -1, opaque}},
	unix.SYS_SCHED_SETATTR:           {"sched_setattr", []int{decimal, opaque}},
	unix.SYS_IOPRIO_SET:              {"ioprio_set", []int{decimal, decimal, hex}},
	unix.SYS_KEYCTL:                  {"keyctl", []int{option}},
	unix.SYS_EXECVEAT:                {"execve", []int{-1, -1, -1, -1, -1}},
	unix.SYS_SECCOMP:                 {"seccomp", []int{-1, -1, opaque}},
	unix.SYS_OPEN_TREE:               {"open_tree", []int{file, str, hex}},
	unix.SYS_MOVE_MOUNT:              {"move_mount", []int{file, str, file, str}},
	unix.SYS_FSOPEN:                  {"fsopen", []int{str}},
	unix.SYS_FSCONFIG:                {"fsconfig", []int{file, decimal, str, str}},
	unix.SYS_FSMOUNT:                 {"fsmount", []int{file, -1, hex}},
	unix.SYS_MOUNT_SETATTR:           {"mount_setattr", []int{file, str, hex, opaque}},
	unix.SYS_LANDLOCK_CREATE_RULESET: {"landlock_create_ruleset", []int{opaque}},
	unix.SYS_LANDLOCK_ADD_RULE:       {"landlock_add_rule", []int{file, -1, -1, -1, hex}},
	unix.SYS_LANDLOCK_RESTRICT_SELF:  {"landlock_restrict_self", []int{file}},
	unix.SYS_OPENAT2:                 {"openat2", []int{file, str, opaque}},
	unix.SYS_MKDIRAT:                 {"mkdirat", []int{file, str, octal}},
	unix.SYS_MKNODAT:                 {"mknodat", []int{file, str, octal, hex}},
	unix.SYS_SYMLINKAT:               {"symlinkat", []int{str, file, str}},
	unix.SYS_FCHDIR:                  {"fchdir", []int{file}},
	unix.SYS_CHROOT:                  {"chroot", []int{str}},
	unix.SYS_PIVOT_ROOT:              {"pivot_root", []int{str, str}},
}

// text is step index in words; 0 is clone3.
func (p *Program) text(index int) string {
	if index == 0 {
		return p.cloneText()
	}
	i := index - 1
	st := &p.steps[i]
	if name := nameIn(p.labels, i); name != "" {
		return name
	}
	if st.nr == unix.SYS_FUTEX || st.nr == unix.SYS_PPOLL {
		return p.waitText(st)
	}
	c, known := calls[st.nr]
	if !known {
		return fmt.Sprintf("syscall %d", st.nr)
	}
	var args []string
	for a, kind := range c.args {
		if kind >= 0 {
			args = append(args, p.argText(i, a, kind))
		}
	}
	if st.nr == unix.SYS_CLOSE_RANGE && st.args[2] == unix.CLOSE_RANGE_UNSHARE {
		args = append(args, "UNSHARE")
	}
	return c.name + "(" + strings.Join(args, ", ") + ")"
}

func (p *Program) argText(i, a, kind int) string {
	st := &p.steps[i]
	v := st.args[a]
	if p.ptrs[i]&(1<<a) == 0 && (kind == str || kind == opaque || kind == buf) {
		return "NULL"
	}
	switch kind {
	case hex:
		return "0x" + strconv.FormatUint(v, 16)
	case octal:
		return "0" + strconv.FormatUint(v, 8)
	case option:
		return options[v]
	case space:
		return spaces[v]
	case sigName:
		return unix.SignalName(unix.Signal(v))
	case str:
		s := p.bytesAt(v)
		return strconv.Quote(string(s[:bytes.IndexByte(s, 0)]))
	case buf:
		return strconv.Quote(string(p.bytesAt(v)[:st.args[a+1]]))
	case rlimit:
		for name, number := range Rlimits {
			if v == uint64(number) {
				return "RLIMIT_" + strings.ToUpper(name)
			}
		}
	case limits:
		b := p.bytesAt(v)
		return limit(binary.NativeEndian.Uint64(b)) + ", " + limit(binary.NativeEndian.Uint64(b[8:]))
	case opaque:
		return "..."
	case file:
		if from, ok := p.source(i, a); ok {
			return fmt.Sprintf("result of %d", from+1) + p.resultName(from)
		}
		if name := nameIn(p.names, int(v)); name != "" {
			return fmt.Sprintf("%d<%s>", v, name)
		}
	}
	return strconv.FormatInt(int64(v), 10)
}

func limit(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// resultName is what a step opens.
func (p *Program) resultName(step int) string {
	for a, kind := range calls[p.steps[step].nr].args {
		if name := p.argText(step, a, str); kind == str && name != `""` {
			return "<" + strings.Trim(name, `"`) + ">"
		}
	}
	return ""
}

// nameIn is what errors call a descriptor, or a step.
func nameIn(names []File, of int) string {
	for _, f := range names {
		if f.FD == of {
			return f.Path
		}
	}
	return ""
}

// bytesAt is the data that a finished step's argument points to.
func (p *Program) bytesAt(offset uint64) []byte {
	if base := uint64(uintptr(unsafe.Pointer(&p.words[0]))); offset >= base { // it was started, and is no template any more
		offset -= base
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&p.words[0])), len(p.words)*8)
	return raw[offset:]
}

// source finds the step whose result is argument a of step i.
func (p *Program) source(i, a int) (from int, ok bool) {
	for _, o := range p.outs {
		if o.to == i && o.arg == a {
			return o.from, true
		}
	}
	return 0, false
}

func (p *Program) waitText(st *step) string {
	if st.nr == unix.SYS_FUTEX && st.args[1] == futexWake {
		return "wake the parent"
	}
	var b strings.Builder
	b.WriteString("wait for the parent to")
	if p.announce != nil {
		b.WriteString(" tell of this process,")
	}
	for _, m := range p.idmapped {
		fmt.Fprintf(&b, " map the ids of %q,", m.path)
	}
	for i, m := range p.maps {
		if i > 0 {
			b.WriteByte(',')
		}
		file := m.name
		if file != setgroupsFile {
			file += "_map"
		}
		fmt.Fprintf(&b, " write %q to %s", m.data, file)
	}
	return b.String()
}

func (p *Program) cloneText() string {
	var flags []string
	for _, f := range []struct {
		bit  uint64
		name string
	}{
		{unix.CLONE_VM, "VM"}, {unix.CLONE_VFORK, "VFORK"}, {unix.CLONE_PIDFD, "PIDFD"},
		{unix.CLONE_PARENT_SETTID, "PARENT_SETTID"}, {unix.CLONE_CLEAR_SIGHAND, "CLEAR_SIGHAND"},
		{unix.CLONE_NEWNS, "NEWNS"}, {unix.CLONE_NEWUTS, "NEWUTS"}, {unix.CLONE_NEWIPC, "NEWIPC"},
		{unix.CLONE_NEWUSER, "NEWUSER"}, {unix.CLONE_NEWPID, "NEWPID"}, {unix.CLONE_NEWNET, "NEWNET"},
		{unix.CLONE_INTO_CGROUP, "INTO_CGROUP"},
	} {
		if p.flags&f.bit != 0 {
			flags = append(flags, f.name)
		}
	}
	s := "clone3(" + strings.Join(flags, "|")
	if p.flags&unix.CLONE_INTO_CGROUP != 0 {
		fd := int(headerOf(p.words).clone.cgroup)
		s += fmt.Sprintf(", cgroup %d<%s>", fd, nameIn(p.names, fd))
	}
	return s + ")"
}
