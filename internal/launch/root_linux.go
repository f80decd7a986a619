// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of descriptors above all that the child needs for anything else. A
// step can hand its result to two others only; what is used more often is moved
// to one of these.
const (
	slotRoot  = iota // the new root
	slotTree         // the mount that is being made
	slotFS           // the file system that it is made of
	slotOther        // the attached copy of a root that cannot be pivoted
	slotOpened
)

// below is room for what is open for a moment, where the caller has every number
// in use that the child needs none of.
const below = 32

func (p *Program) slot(n int) int { return p.slots + n }

// keep moves the result of a step to a slot.
func (p *Program) keep(step, slot int) {
	p.pipe(step, p.add(unix.SYS_DUP3, -1, p.slot(slot), unix.O_CLOEXEC), 0)
	p.pipe(step, p.add(unix.SYS_CLOSE, -1), 0)
}

func (p *Program) drop(slot int) { p.add(unix.SYS_CLOSE, p.slot(slot)) }

// root assembles the root file system and changes into it.
//
// It is written with the calls of the new mount API, on descriptors: fsopen,
// open_tree and move_mount (Linux 5.2) and openat2 (5.6), which every kernel
// with this package's clone3 has. mount_setattr (5.12) is the exception.
func (p *Program) root(s *Spec) {
	r := s.Root
	if r == nil {
		return
	}
	umask := p.add(unix.SYS_UMASK, 0) // modes are as given
	if initialRoot() {
		p.leaveInitialRoot()
	}
	t := &r.Tree
	if t.Overlay != nil {
		p.overlay(t)
	} else {
		p.tree(t, s)
		p.onTop()
		p.settle(slotTree, t.Attr, p.private(t, s))
		p.add(unix.SYS_DUP3, p.slot(slotTree), p.slot(slotRoot), unix.O_CLOEXEC)
		p.drop(slotTree)
	}
	for i := range r.Items {
		p.item(&r.Items[i], s)
	}
	if r.ReadOnly {
		p.attributes(slotRoot, unix.MOUNT_ATTR_RDONLY, false, false)
		p.settle(slotRoot, unix.MOUNT_ATTR_RDONLY, false)
	}
	p.add(unix.SYS_FCHDIR, p.slot(slotRoot))
	p.add(unix.SYS_PIVOT_ROOT, ".", ".") // the old root is on top of the new one then
	if t.Overlay != nil {
		p.add(unix.SYS_UMOUNT2, ".", unix.MNT_DETACH) // and what the overlay stood on is on top of that
	}
	p.add(unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	p.add(unix.SYS_CHDIR, "/")
	p.drop(slotRoot)
	p.pipe(umask, p.add(unix.SYS_UMASK, -1), 0)
}

// openTrees opens what the root is made of and leaves it in slots from slotOpened
// on: copies of what is bound, and the directories of an overlay.
func (p *Program) openTrees(s *Spec) {
	r := s.Root
	if r == nil {
		return
	}
	p.slots, p.opened = p.needed(s)+below, map[*Tree]int{}
	for slot, name := range []string{slotRoot: "root", slotTree: "mount", slotFS: "fs", slotOther: "copy of /"} {
		p.names = append(p.names, File{FD: p.slot(slot), Path: name})
	}
	next := slotOpened
	for _, l := range p.layers {
		p.add(unix.SYS_DUP3, l.FD, p.slot(next), unix.O_CLOEXEC)
		p.names = append(p.names, l, File{FD: p.slot(next), Path: l.Path})
		next++
	}
	if o := r.Tree.Overlay; o != nil && !o.IDMapped {
		for _, dir := range o.dirs() {
			p.keep(p.add(unix.SYS_OPENAT, unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0), next)
			p.names = append(p.names, File{FD: p.slot(next), Path: dir})
			next++
		}
	}
	bind := func(t *Tree) {
		if t == nil || t.Bind == "" {
			return
		}
		p.keep(p.add(unix.SYS_OPEN_TREE, unix.AT_FDCWD, t.Bind, copyFlags(t.Attr)), next)
		p.names, p.opened[t] = append(p.names, File{FD: p.slot(next), Path: t.Bind}), next
		next++
	}
	bind(&r.Tree)
	for i := range r.Items {
		bind(r.Items[i].Mount)
	}
}

// initialRoot reports whether "/" may be the kernel's initial root, which
// pivot_root refuses: that is a ramfs or a tmpfs. Any other of these gets a
// mount too many.
func initialRoot() bool {
	var st unix.Statfs_t
	err := unix.Statfs("/", &st)
	return err == nil && (st.Type == unix.RAMFS_MAGIC || st.Type == unix.TMPFS_MAGIC)
}

// leaveInitialRoot changes into a copy of the root, which is an ordinary mount.
func (p *Program) leaveInitialRoot() {
	p.keep(p.add(unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE), slotOther)
	p.add(unix.SYS_MOVE_MOUNT, p.slot(slotOther), "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
	p.add(unix.SYS_FCHDIR, p.slot(slotOther))
	p.add(unix.SYS_CHROOT, ".")
	p.drop(slotOther)
}

// overlay leaves an overlay's top in slotRoot. mount(2) makes it, for fsconfig
// takes no more than 255 bytes of layers before Linux 6.7. The layers are named
// by descriptor, so no path needs escapes, and none shows inside.
func (p *Program) overlay(t *Tree) {
	o := t.Overlay
	dirs := make([]string, len(o.dirs()))
	for i := range dirs {
		dirs[i] = fmt.Sprintf("/proc/self/fd/%d", p.slot(slotOpened+i))
	}
	lower := strings.Join(dirs[:len(o.Lower)], ":")
	// A tmpfs on top of "/" is where the overlay is mounted, and what it writes
	// to, unless that is given.
	p.fs(&Tree{Type: "tmpfs", Options: append([]string{"mode=700"}, o.Options...), Attr: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV})
	p.onTop()
	stage := p.slot(slotTree)
	for _, dir := range []string{"root", "upper", "work"} {
		p.add(unix.SYS_MKDIRAT, stage, dir, 0o755)
	}
	for i := range p.layers { // an overlay's layers have to be attached somewhere
		name := fmt.Sprintf("layer%d", i)
		p.add(unix.SYS_MKDIRAT, stage, name, 0o755)
		p.add(unix.SYS_MOVE_MOUNT, p.slot(slotOpened+i), "", stage, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	in := fmt.Sprintf("/proc/self/fd/%d/", stage)
	upper, work := in+"upper", in+"work"
	switch {
	case o.Upper == "":
	case o.IDMapped:
		upper, work = dirs[len(o.Lower)]+"/"+path.Base(o.Upper), dirs[len(o.Lower)]+"/"+path.Base(o.Work)
	default:
		upper, work = dirs[len(o.Lower)], dirs[len(o.Lower)+1]
	}
	data := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if o.Unprivileged {
		data += ",userxattr"
	}
	p.overlaid = 1 + p.add(unix.SYS_MOUNT, "overlay", in+"root", "overlay", t.Attr, data)
	p.keep(p.add(unix.SYS_OPENAT, stage, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0), slotRoot)
	p.drop(slotTree)
}

// onTop attaches the mount in slotTree on top of "/", which the child goes on
// seeing from below: a place that is always there, and nobody else's.
func (p *Program) onTop() {
	p.add(unix.SYS_MOVE_MOUNT, p.slot(slotTree), "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// tree leaves a detached mount in slotTree, which settle finishes once it is
// attached.
func (p *Program) tree(t *Tree, s *Spec) {
	switch {
	case t.FD != nil:
		p.names = append(p.names, *t.FD)
		p.add(unix.SYS_DUP3, t.FD.FD, p.slot(slotTree), unix.O_CLOEXEC)
		p.attributes(slotTree, t.Attr, p.private(t, s), true)
	case t.Bind != "":
		p.add(unix.SYS_DUP3, p.slot(p.opened[t]), p.slot(slotTree), unix.O_CLOEXEC)
		p.attributes(slotTree, t.Attr, p.private(t, s), true)
	default:
		p.fs(t)
	}
}

// fs leaves a new file system in slotTree.
func (p *Program) fs(t *Tree) {
	p.keep(p.add(unix.SYS_FSOPEN, t.Type, unix.FSOPEN_CLOEXEC), slotFS)
	fs := p.slot(slotFS)
	if t.Source != "" {
		p.add(unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, "source", t.Source, 0)
	}
	for _, o := range t.Options {
		if key, value, ok := strings.Cut(o, "="); ok {
			p.add(unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, key, value, 0)
		} else {
			p.add(unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, key, 0, 0)
		}
	}
	p.add(unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	p.keep(p.add(unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, t.Attr), slotTree)
	p.drop(slotFS)
}

// private reports whether what is bound has to be cut off by itself.
func (p *Program) private(t *Tree, s *Spec) bool {
	return s.Propagation == Slave && !t.Slave && t.Type == ""
}

// copyFlags are those of open_tree. Without mount_setattr, attributes can be
// given to one mount only; then what is mounted below it stays away.
func copyFlags(attr uint64) uint {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if attr == 0 || hasSetattr() {
		flags |= unix.AT_RECURSIVE
	}
	return flags
}

// attributes gives the detached mount in a slot its attributes, where the kernel
// has mount_setattr.
func (p *Program) attributes(slot int, attr uint64, private, recursive bool) {
	if !hasSetattr() || attr == 0 && !private {
		return
	}
	ma := unix.MountAttr{Attr_set: attr}
	if private {
		ma.Propagation = unix.MS_PRIVATE
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	raw := (*[unsafe.Sizeof(ma)]byte)(unsafe.Pointer(&ma))[:]
	p.add(unix.SYS_MOUNT_SETATTR, p.slot(slot), "", int(flags), raw, len(raw))
}

// settle does to the attached mount in a slot what attributes could not.
func (p *Program) settle(slot int, attr uint64, private bool) {
	if hasSetattr() {
		return
	}
	at := fmt.Sprintf("/proc/self/fd/%d", p.slot(slot))
	if attr != 0 {
		// MOUNT_ATTR_* of attrs and MS_* are the same numbers.
		p.add(unix.SYS_MOUNT, 0, at, 0, unix.MS_REMOUNT|unix.MS_BIND|attr, 0)
	}
	if private {
		p.add(unix.SYS_MOUNT, 0, at, 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	}
}

// hasSetattr asks the kernel, or whatever filter is over this process, once.
var hasSetattr = sync.OnceValue(func() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return err == unix.EBADF
})

// item makes one thing in the root.
func (p *Program) item(i *Item, s *Spec) {
	resolve := uint64(unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS)
	if !i.Follow {
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	p.make(i, resolve)
	switch {
	case i.Mount != nil:
		p.tree(i.Mount, s)
		p.place(i.Path, resolve)
		if i.Mount.Type == "" {
			p.settle(slotTree, i.Mount.Attr, p.private(i.Mount, s))
		}
		p.drop(slotTree)
	case i.Attr != 0:
		at := p.resolve(i.Path, resolve, unix.O_PATH)
		from := p.add(unix.SYS_OPEN_TREE, -1, "", unix.AT_EMPTY_PATH|copyFlags(i.Attr))
		p.close(at, from)
		p.keep(from, slotTree)
		p.attributes(slotTree, i.Attr, false, true)
		p.place(i.Path, resolve)
		p.settle(slotTree, i.Attr, false)
		p.drop(slotTree)
	}
}

// place attaches the mount in slotTree.
func (p *Program) place(at string, resolve uint64) {
	to := p.resolve(at, resolve, unix.O_PATH)
	move := p.add(unix.SYS_MOVE_MOUNT, p.slot(slotTree), "", -1, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	p.pipe(to, move, 2)
	p.pipe(to, p.add(unix.SYS_CLOSE, -1), 0)
}

// resolve opens a path inside the root. The kernel does not go up in it while
// anybody on the machine renames or mounts something, and wants to be asked again.
func (p *Program) resolve(at string, resolve uint64, flags uint64) int {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	raw := (*[unsafe.Sizeof(how)]byte)(unsafe.Pointer(&how))[:]
	open := p.add(unix.SYS_OPENAT2, p.slot(slotRoot), at, raw, len(raw))
	p.steps[open].tries = resolveTries
	return open
}

// resolveTries bounds what those who rename all the time can cost a start: some
// milliseconds, and then EAGAIN is its error.
const resolveTries = 1 << 12

// make makes a directory, file, link or device in a directory that was resolved
// inside the root. None of these calls follows a link in the last element.
func (p *Program) make(i *Item, resolve uint64) {
	if i.Make == MakeNothing {
		return
	}
	dir, name := path.Split(i.Path)
	at, in := p.slot(slotRoot), -1
	if dir != "" {
		at, in = -1, p.resolve(dir, resolve, unix.O_PATH|unix.O_DIRECTORY)
	}
	var made int
	switch i.Make {
	case MakeDirectory:
		made = p.add(unix.SYS_MKDIRAT, at, name, i.Mode)
	case MakeFile:
		made = p.add(unix.SYS_MKNODAT, at, name, unix.S_IFREG|i.Mode, 0)
	case MakeDevice:
		made = p.add(unix.SYS_MKNODAT, at, name, unix.S_IFCHR|i.Mode, i.Device)
	case MakeNothing:
	case MakeLink:
		made = p.add(unix.SYS_SYMLINKAT, i.Link, at, name)
	}
	if i.Make == MakeDirectory || i.Make == MakeFile {
		// Whether it is there is what the step that wants it will find.
		p.steps[made].flags |= flagOptional | flagQuiet
	}
	if in < 0 {
		return // directly in the root
	}
	arg := 0
	if i.Make == MakeLink {
		arg = 1
	}
	p.pipe(in, made, arg)
	p.pipe(in, p.add(unix.SYS_CLOSE, -1), 0)
}

// chdir enters the working directory, which no magic link may lead out of the
// root.
func (p *Program) chdir(s *Spec) {
	if !s.confined() {
		p.add(unix.SYS_CHDIR, s.Dir)
		return
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	raw := (*[unsafe.Sizeof(how)]byte)(unsafe.Pointer(&how))[:]
	open := p.add(unix.SYS_OPENAT2, unix.AT_FDCWD, s.Dir, raw, len(raw))
	p.close(open, p.add(unix.SYS_FCHDIR, -1))
}
