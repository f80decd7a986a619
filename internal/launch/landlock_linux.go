// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"encoding/binary"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock is the version of Landlock's interface that the kernel has, asked
// once; 0 is none. Scopes came with 6 (Linux 6.12).
var Landlock = sync.OnceValue(func() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
})

// Rights of files, by what a rule allows. Those of the second kind are of directories
// only, and the kernel refuses them for anything else.
const (
	readRights  = unix.LANDLOCK_ACCESS_FS_READ_FILE
	writeRights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	execRights  = unix.LANDLOCK_ACCESS_FS_EXECUTE

	readBelow  = unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeBelow = unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER
)

// fileRights are those that a version of Landlock's interface knows.
func fileRights(version int) (known uint64) {
	known = readRights | execRights | readBelow | writeBelow | writeRights
	for _, later := range []struct {
		since int
		right uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if version < later.since {
			known &^= later.right
		}
	}
	return known
}

// scope gives up reaching processes outside, and files but those of FileRules.
func (p *Program) scope(s *Spec) {
	if !s.lands() {
		return
	}
	known := uint64(0)
	if len(s.FileRules) > 0 {
		known = fileRights(Landlock())
	}
	// struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped.
	attr := binary.NativeEndian.AppendUint64(nil, known)
	attr = binary.NativeEndian.AppendUint64(attr, 0)
	attr = binary.NativeEndian.AppendUint64(attr, s.Scoped)
	rules := result(p.add(unix.SYS_LANDLOCK_CREATE_RULESET, attr, len(attr), 0))
	for i := range s.FileRules {
		r := &s.FileRules[i]
		var files, below uint64
		if r.Read {
			files, below = files|readRights, below|readBelow
		}
		if r.Write {
			files, below = files|writeRights, below|writeBelow
		}
		if r.Execute {
			files |= execRights
		}
		p.allow(rules, r.Path, files&known, 0)
		if below&known != 0 {
			p.allow(rules, r.Path, below&known, flagOptional|flagQuiet)
		}
	}
	p.add(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0)
	p.add(unix.SYS_CLOSE, rules)
}

// allow adds one rule. The structure that it takes, landlock_path_beneath_attr, is in
// the step's own arguments beyond those of the call, since a descriptor in it is the
// result of another step.
func (p *Program) allow(rules result, path string, rights uint64, flags uint32) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	raw := (*[unsafe.Sizeof(how)]byte)(unsafe.Pointer(&how))[:]
	open := result(p.add(unix.SYS_OPENAT2, unix.AT_FDCWD, path, raw, len(raw)))
	at := field(headerSize + uintptr(len(p.steps))*stepSize + unsafe.Offsetof(step0.args) + 4*8)
	rule := p.add(unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, at, 0, rights, open)
	p.steps[rule].flags |= flags
	p.add(unix.SYS_CLOSE, open)
}
