// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// assembly is how far the steps that make a root have come.
type assembly struct {
	slots  int       // the first descriptor number that nobody else uses
	opened []mounted // copies of what is bound
	shared []mounted // what is attached already, of trees that more items have
	top    any       // the new root
	dir    string    // the directory in it that is open, "" if none is
	in     result
}

// mounted is a tree and the step that has made a mount of it.
type mounted struct {
	tree  *Tree
	mount result
}

func find(list []mounted, t *Tree) (mount result, ok bool) {
	for _, m := range list {
		if m.tree == t {
			return m.mount, true
		}
	}
	return 0, false
}

// Numbers of descriptors above all that the child needs for anything else: of what
// is named by number, in paths of /proc.
const (
	slotStage  = iota // where an overlay is made
	slotMount         // the mount that settle is about
	slotOpened        // the directories of an overlay
)

// below is room for what is open for a moment, where the caller has every number
// in use that the child needs none of.
const below = 32

func (p *Program) slot(n int) int { return p.build.slots + n }

// keep moves the result of a step to a slot.
func (p *Program) keep(r result, slot int) {
	p.add(unix.SYS_DUP3, r, p.slot(slot), unix.O_CLOEXEC)
	p.add(unix.SYS_CLOSE, r)
}

func (p *Program) drop(slot int) { p.add(unix.SYS_CLOSE, p.slot(slot)) }

// done closes what a step has opened, but nothing of the caller's.
func (p *Program) done(fd any) {
	if r, ok := fd.(result); ok {
		p.add(unix.SYS_CLOSE, r)
	}
}

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
		p.build.top = p.overlay(t)
	} else {
		p.build.top = p.tree(t, s)
		p.onTop(p.build.top)
		p.settle(p.build.top, t.Attr, p.private(t, s))
	}
	for i := range r.Items {
		p.item(r.Items[i:], s)
	}
	p.leaveDirectory()
	for _, m := range p.build.shared {
		p.add(unix.SYS_CLOSE, m.mount)
	}
	top := p.build.top
	if r.ReadOnly {
		p.attributes(top, unix.MOUNT_ATTR_RDONLY, false, false)
		p.settle(top, unix.MOUNT_ATTR_RDONLY, false)
	}
	p.add(unix.SYS_FCHDIR, top)
	p.add(unix.SYS_PIVOT_ROOT, ".", ".") // the old root is on top of the new one then
	if t.Overlay != nil {
		p.add(unix.SYS_UMOUNT2, ".", unix.MNT_DETACH) // and what the overlay stood on is on top of that
	}
	p.add(unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	p.add(unix.SYS_CHDIR, "/")
	p.done(top)
	p.add(unix.SYS_UMASK, result(umask))
}

// openTrees opens what the root is made of: copies of what is bound, and the
// directories of an overlay in slots from slotOpened on.
func (p *Program) openTrees(s *Spec) {
	r := s.Root
	if r == nil {
		return
	}
	p.build = assembly{slots: p.needed(s) + below}
	p.names = append(p.names, File{FD: p.slot(slotStage), Path: "stage"}, File{FD: p.slot(slotMount), Path: "mount"})
	next := slotOpened
	for _, l := range p.layers {
		p.add(unix.SYS_DUP3, l.FD, p.slot(next), unix.O_CLOEXEC)
		p.names = append(p.names, l, File{FD: p.slot(next), Path: l.Path})
		next++
	}
	if o := r.Tree.Overlay; o != nil && !o.IDMapped {
		for _, dir := range o.dirs() {
			p.keep(result(p.add(unix.SYS_OPENAT, unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)), next)
			p.names = append(p.names, File{FD: p.slot(next), Path: dir})
			next++
		}
	}
	bind := func(t *Tree) {
		if t == nil || t.Bind == "" {
			return
		}
		if _, opened := find(p.build.opened, t); !opened {
			mount := result(p.add(unix.SYS_OPEN_TREE, unix.AT_FDCWD, t.Bind, copyFlags(t.Attr)))
			p.build.opened = append(p.build.opened, mounted{t, mount})
		}
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
	other := result(p.add(unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE))
	p.onTop(other)
	p.add(unix.SYS_FCHDIR, other)
	p.add(unix.SYS_CHROOT, ".")
	p.add(unix.SYS_CLOSE, other)
}

// overlay makes an overlay, and opens its top. mount(2) makes it, for fsconfig
// takes no more than 255 bytes of layers before Linux 6.7. The layers are named
// by descriptor, so no path needs escapes, and none shows inside.
func (p *Program) overlay(t *Tree) (top result) {
	o := t.Overlay
	dirs := make([]string, len(o.dirs()))
	for i := range dirs {
		dirs[i] = inProc(p.slot(slotOpened + i))
	}
	lower := strings.Join(dirs[:len(o.Lower)], ":")
	// A tmpfs on top of "/" is where the overlay is mounted, and what it writes
	// to, unless that is given.
	p.keep(p.fs(&Tree{Type: "tmpfs", Options: append([]string{"mode=700"}, o.Options...), Attr: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}), slotStage)
	stage := p.slot(slotStage)
	p.onTop(stage)
	for _, dir := range []string{"root", "upper", "work"} {
		p.add(unix.SYS_MKDIRAT, stage, dir, 0o755)
	}
	for i := range p.layers { // an overlay's layers have to be attached somewhere
		name := "layer" + strconv.Itoa(i)
		p.add(unix.SYS_MKDIRAT, stage, name, 0o755)
		p.add(unix.SYS_MOVE_MOUNT, p.slot(slotOpened+i), "", stage, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	in := inProc(stage)
	upper, work := in+"/upper", in+"/work"
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
	p.overlaid = 1 + p.add(unix.SYS_MOUNT, "overlay", in+"/root", "overlay", t.Attr, data)
	top = result(p.add(unix.SYS_OPENAT, stage, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	p.drop(slotStage)
	return top
}

// inProc is where /proc has a descriptor.
func inProc(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// onTop attaches a mount on top of "/", which the child goes on seeing from
// below: a place that is always there, and nobody else's.
func (p *Program) onTop(mount any) {
	p.add(unix.SYS_MOVE_MOUNT, mount, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// tree makes a detached mount, which settle finishes once it is attached.
func (p *Program) tree(t *Tree, s *Spec) (mount any) {
	switch {
	case t.FD != nil:
		p.names = append(p.names, *t.FD)
		mount = t.FD.FD
	case t.Bind != "":
		mount, _ = find(p.build.opened, t)
	default:
		return p.fs(t)
	}
	p.attributes(mount, t.Attr, p.private(t, s), true)
	return mount
}

// fs makes a new file system.
func (p *Program) fs(t *Tree) (mount result) {
	fs := result(p.add(unix.SYS_FSOPEN, t.Type, unix.FSOPEN_CLOEXEC))
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
	mount = result(p.add(unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, t.Attr))
	p.add(unix.SYS_CLOSE, fs)
	return mount
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

// attributes gives a mount its attributes, where the kernel has mount_setattr.
func (p *Program) attributes(mount any, attr uint64, private, recursive bool) {
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
	p.add(unix.SYS_MOUNT_SETATTR, mount, "", int(flags), raw, len(raw))
}

// settle does to an attached mount what attributes could not.
func (p *Program) settle(mount any, attr uint64, private bool) {
	if hasSetattr() || attr == 0 && !private {
		return
	}
	p.add(unix.SYS_DUP3, mount, p.slot(slotMount), unix.O_CLOEXEC)
	at := inProc(p.slot(slotMount))
	if attr != 0 {
		// MOUNT_ATTR_* of attrs and MS_* are the same numbers.
		p.add(unix.SYS_MOUNT, 0, at, 0, unix.MS_REMOUNT|unix.MS_BIND|attr, 0)
	}
	if private {
		p.add(unix.SYS_MOUNT, 0, at, 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	}
	p.drop(slotMount)
}

// hasSetattr asks the kernel, or whatever filter is over this process, once.
var hasSetattr = sync.OnceValue(func() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return err == unix.EBADF
})

// item makes the first of the items in the root.
func (p *Program) item(items []Item, s *Spec) {
	i := &items[0]
	resolve := uint64(unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS)
	at, name := p.build.top, i.Path
	if i.Follow {
		p.leaveDirectory() // what is mounted here may be on top of it
	} else {
		resolve |= unix.RESOLVE_NO_SYMLINKS
		at, name = p.directory(i.Path, resolve)
	}
	p.make(i, at, name, resolve)
	switch {
	case i.Mount != nil:
		first, again := find(p.build.shared, i.Mount)
		var mount any
		if again {
			mount = result(p.add(unix.SYS_OPEN_TREE, first, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
		} else {
			mount = p.tree(i.Mount, s)
		}
		if !i.Follow && i.Make != MakeNothing && name != i.Path {
			p.add(unix.SYS_MOVE_MOUNT, mount, "", at, name, unix.MOVE_MOUNT_F_EMPTY_PATH) // nothing to resolve: it was made here
		} else {
			to := p.resolve(at, name, resolve, unix.O_PATH)
			p.attach(mount, to)
			p.add(unix.SYS_CLOSE, to)
		}
		if !again && i.Mount.Type == "" {
			p.settle(mount, i.Mount.Attr, p.private(i.Mount, s))
		}
		if r, ok := mount.(result); ok && !again && slices.ContainsFunc(items[1:], func(o Item) bool { return o.Mount == i.Mount }) {
			p.build.shared = append(p.build.shared, mounted{i.Mount, r})
		} else {
			p.done(mount)
		}
	case i.Attr != 0:
		to := p.resolve(at, name, resolve, unix.O_PATH)
		mount := result(p.add(unix.SYS_OPEN_TREE, to, "", unix.AT_EMPTY_PATH|copyFlags(i.Attr)))
		p.attributes(mount, i.Attr, false, true)
		p.attach(mount, to)
		p.add(unix.SYS_CLOSE, to)
		p.settle(mount, i.Attr, false)
		p.add(unix.SYS_CLOSE, mount)
	}
}

// attach puts a detached mount where to is.
func (p *Program) attach(mount any, to result) {
	p.add(unix.SYS_MOVE_MOUNT, mount, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// directory opens the directory that a path is in, for the items after it as well.
func (p *Program) directory(at string, resolve uint64) (dir any, name string) {
	in, name := path.Split(at)
	if in != p.build.dir {
		p.leaveDirectory()
		if in != "" {
			p.build.dir, p.build.in = in, p.resolve(p.build.top, in, resolve, unix.O_PATH|unix.O_DIRECTORY)
		}
	}
	if in == "" {
		return p.build.top, name
	}
	return p.build.in, name
}

func (p *Program) leaveDirectory() {
	if p.build.dir != "" {
		p.add(unix.SYS_CLOSE, p.build.in)
		p.build.dir = ""
	}
}

// resolve opens a path inside the root. The kernel does not go up in it while
// anybody on the machine renames or mounts something, and wants to be asked again.
func (p *Program) resolve(in any, at string, resolve uint64, flags uint64) result {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	raw := (*[unsafe.Sizeof(how)]byte)(unsafe.Pointer(&how))[:]
	open := p.add(unix.SYS_OPENAT2, in, at, raw, len(raw))
	p.steps[open].tries = resolveTries
	return result(open)
}

// resolveTries bounds what those who rename all the time can cost a start: some
// milliseconds, and then EAGAIN is its error.
const resolveTries = 1 << 12

// make makes a directory, file, link or device in a directory that was resolved
// inside the root. None of these calls follows a link in the last element.
func (p *Program) make(i *Item, at any, name string, resolve uint64) {
	if i.Make == MakeNothing {
		return
	}
	dir, name := path.Split(name)
	if dir != "" {
		in := p.resolve(at, dir, resolve, unix.O_PATH|unix.O_DIRECTORY)
		defer p.add(unix.SYS_CLOSE, in)
		at = in
	}
	var made int
	switch i.Make {
	case MakeDirectory:
		made = p.add(unix.SYS_MKDIRAT, at, name, i.Mode)
	case MakeFile:
		made = p.add(unix.SYS_MKNODAT, at, name, unix.S_IFREG|i.Mode, 0)
	case MakeDevice:
		p.add(unix.SYS_MKNODAT, at, name, unix.S_IFCHR|i.Mode, i.Device)
	case MakeNothing:
	case MakeLink:
		p.add(unix.SYS_SYMLINKAT, i.Link, at, name)
	}
	if i.Make == MakeDirectory || i.Make == MakeFile {
		// Whether it is there is what the step that wants it will find.
		p.steps[made].flags |= flagOptional | flagQuiet
	}
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
	open := result(p.add(unix.SYS_OPENAT2, unix.AT_FDCWD, s.Dir, raw, len(raw)))
	p.add(unix.SYS_FCHDIR, open)
	p.add(unix.SYS_CLOSE, open)
}
