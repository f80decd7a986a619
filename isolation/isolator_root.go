// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/quota"
	"github.com/caisson-run/caisson/namespaces"
)

// rootIsolator gives the sandbox a root file system, which its first process
// assembles at its start. So there is nothing to clean up: it goes with the
// sandbox's mount namespace.
type rootIsolator struct{}

func (rootIsolator) Name() string                              { return "root" }
func (rootIsolator) Cleanup(context.Context, *Container) error { return nil }

// MOUNT_ATTR_* of mount_setattr(2).
const (
	attrReadOnly = 1 << 0
	attrNoSUID   = 1 << 1
	attrNoDev    = 1 << 2
	attrNoExec   = 1 << 3
)

// Prepare looks whether all that is named is there, so that a mistake is an error
// of Create. The start looks again, in the kernel.
func (rootIsolator) Prepare(_ context.Context, c *Container) error {
	r := c.Spec.Root
	if r.IsZero() {
		return nil
	}
	if kinds := c.Spec.Namespaces.Kinds(); !r.Bare && !sysfs(kinds) {
		c.missing = append(c.missing, "/sys: the kernel has one only for the owner of the network namespace")
	}
	for _, dir := range r.dirs() {
		if err := directory(dir); err != nil {
			return err
		}
	}
	for _, v := range r.Volumes {
		if v.Source == "" {
			continue
		}
		if _, err := os.Stat(v.Source); err != nil {
			return err
		}
	}
	if r.Upper != "" {
		below := []string{"upper", "work"}
		if r.Size != 0 {
			if err := os.MkdirAll(r.Upper, 0o755); err != nil {
				return err
			}
			if err := quota.Limit(r.Upper, r.Size, below...); err != nil {
				return err
			}
		}
		for _, name := range below {
			if err := os.MkdirAll(filepath.Join(r.Upper, name), 0o755); err != nil {
				return err
			}
		}
	}
	if r.Path != "" {
		return r.mountPoints()
	}
	return nil
}

// dirs are the directories that make the root, the topmost first.
func (r *Root) dirs() []string {
	if r.Path != "" {
		return []string{r.Path}
	}
	return r.Layers
}

func directory(p string) error {
	info, err := os.Stat(p)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: p, Err: errors.New("not a directory")}
	}
	return err
}

// mountPoints names all mount points that Path lacks.
func (r *Root) mountPoints() error {
	var lacking []string
	b := r.builder(false)
	for _, p := range r.standard() {
		if _, err := linux.ModeInRoot(r.Path, p); errors.Is(err, fs.ErrNotExist) {
			lacking = append(lacking, "/"+p)
		}
	}
	for _, v := range r.Volumes {
		if _, err := linux.ModeInRoot(r.Path, v.Target); errors.Is(err, fs.ErrNotExist) && !b.own(v.Target[1:]) {
			lacking = append(lacking, v.Target)
		}
	}
	if lacking == nil {
		return nil
	}
	return &InvalidError{Field: "root.path", Value: clip(r.Path), Reason: fmt.Sprintf(
		"it has no %s to mount on: make them, or use layers", strings.Join(lacking, ", "))}
}

func (r *Root) standard() []string {
	if r.Bare {
		return nil
	}
	return []string{"proc", "sys", "dev"}
}

// Launch lays the root out.
func (rootIsolator) Launch(c *Container, l *Launch) error {
	r := &c.Spec.Root
	if r.IsZero() {
		return nil
	}
	b := r.builder(l.New.Has(namespaces.User))
	b.noSys = !sysfs(l.New)
	if !r.Bare {
		b.standard(l)
	}
	l.root = b.tree()
	l.rootMounts = func(mounts []Mount) ([]launch.Item, error) {
		for _, m := range mounts {
			if err := b.mount(m); err != nil {
				return nil, err
			}
		}
		for _, v := range r.Volumes {
			if err := b.volume(v); err != nil {
				return nil, err
			}
		}
		b.protect()
		return b.items, nil
	}
	for _, v := range r.Volumes {
		l.slave = l.slave || v.Slave
	}
	return nil
}

// rootBuilder makes the items of a root.
type rootBuilder struct {
	*Root
	user  bool     // in a new user namespace
	noSys bool     // there is no /sys
	owned []string // directories of the sandbox's own memory, where mount points are made
	items []launch.Item
}

func (r *Root) builder(user bool) *rootBuilder {
	b := &rootBuilder{Root: r, user: user}
	if !r.Bare {
		b.owned = append(b.owned, "dev")
	}
	for _, v := range r.Volumes {
		if v.Source == "" {
			b.owned = append(b.owned, v.Target[1:])
		}
	}
	return b
}

// tree is the root without what is mounted at the end.
func (b *rootBuilder) tree() *launch.Root {
	r := &launch.Root{ReadOnly: b.ReadOnly, Items: b.items}
	if b.Path != "" {
		r.Tree = launch.Tree{Bind: b.Path, IDMapped: b.IDMapped, Attr: attrNoDev}
		if b.ReadOnly {
			r.Tree.Attr |= attrReadOnly
			r.ReadOnly = false
		}
		return r
	}
	o := &launch.Overlay{Lower: b.Layers, IDMapped: b.IDMapped, Unprivileged: b.user, Options: size(b.Size)}
	if b.Upper != "" {
		o.Upper, o.Work = filepath.Join(b.Upper, "upper"), filepath.Join(b.Upper, "work")
		o.Options = nil
	}
	r.Tree = launch.Tree{Overlay: o, Attr: attrNoDev}
	return r
}

func size(n uint64) []string {
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("size=%d", n)}
}

// own reports whether mount points at p are made.
func (b *rootBuilder) own(p string) bool {
	if b.Path == "" {
		return p != "proc" && p != "sys" && !strings.HasPrefix(p, "proc/") && !strings.HasPrefix(p, "sys/")
	}
	for _, dir := range b.owned {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

// add mounts a tree at p, where a mount point is made if that can be.
func (b *rootBuilder) add(p string, follow, file bool, t *launch.Tree) {
	item := launch.Item{Path: p, Follow: follow, Mount: t}
	if b.own(p) {
		for i := range p {
			if dir := p[:i]; p[i] == '/' && b.own(dir) && !b.has(dir) {
				b.items = append(b.items, launch.Item{Path: dir, Follow: follow, Make: launch.MakeDirectory, Mode: 0o755})
			}
		}
		item.Make, item.Mode = launch.MakeDirectory, 0o755
		if file {
			item.Make, item.Mode = launch.MakeFile, 0o644
		}
	}
	b.items = append(b.items, item)
}

// has reports whether an item makes the directory.
func (b *rootBuilder) has(dir string) bool {
	return slices.ContainsFunc(b.items, func(i launch.Item) bool { return i.Path == dir && i.Make == launch.MakeDirectory })
}

const quiet = attrNoSUID | attrNoDev | attrNoExec

// What is in every root. Nobody changes a tree.
var (
	procTree = launch.Tree{Type: "proc", Source: "proc", Attr: quiet}
	sysTree  = launch.Tree{Type: "sysfs", Source: "sysfs", Attr: quiet | attrReadOnly}
	devTree  = launch.Tree{Type: "tmpfs", Source: "dev", Options: []string{"mode=755", "size=64k"}, Attr: quiet}

	ptsOptions = []string{"newinstance", "ptmxmode=0666", "mode=0620", "gid=" + ttyGroup}
	ptsTree    = launch.Tree{Type: "devpts", Source: "devpts", Options: ptsOptions, Attr: attrNoSUID | attrNoExec}
	ptsNobodys = launch.Tree{Type: "devpts", Source: "devpts", Options: ptsOptions[:3], Attr: attrNoSUID | attrNoExec}
	shmTree    = launch.Tree{Type: "tmpfs", Source: "shm", Options: []string{"mode=1777", "size=64m"}, Attr: quiet}
	emptyTree  = launch.Tree{Type: "tmpfs", Source: "masked", Options: []string{"size=4k", "mode=555"}, Attr: quiet | attrReadOnly}
	mqueueTree = launch.Tree{Type: "mqueue", Source: "mqueue", Attr: quiet}

	// devices are those that every program may expect. They are bound one by one, and
	// everything else is nodev: who may mknod(2) gains nothing by it.
	devices = [...]launch.Item{
		device("null"), device("zero"), device("full"), device("random"), device("urandom"), device("tty"),
	}
	devLinks = [...]launch.Item{
		devLink("fd", "/proc/self/fd"), devLink("stdin", "/proc/self/fd/0"), devLink("stdout", "/proc/self/fd/1"),
		devLink("stderr", "/proc/self/fd/2"), devLink("ptmx", "pts/ptmx"),
	}
)

func device(name string) launch.Item {
	return launch.Item{Path: "dev/" + name, Make: launch.MakeFile, Mode: 0o644,
		Mount: &launch.Tree{Bind: "/dev/" + name, Attr: attrNoSUID | attrNoExec}}
}

func devLink(name, to string) launch.Item {
	return launch.Item{Path: "dev/" + name, Make: launch.MakeLink, Link: to}
}

// standard is /proc, /sys and /dev.
func (b *rootBuilder) standard(l *Launch) {
	b.items = make([]launch.Item, 0, 48)
	for _, dir := range []string{"proc", "sys", "dev"} {
		if b.Path == "" {
			b.items = append(b.items, launch.Item{Path: dir, Make: launch.MakeDirectory, Mode: 0o555})
		}
	}
	b.add("proc", false, false, &procTree)
	if sysfs(l.New) {
		b.add("sys", false, false, &sysTree)
	}
	b.add("dev", false, false, &devTree)
	b.items = append(b.items, devices[:]...)
	pts := &ptsTree
	if _, mapped := l.GIDMap.Outside(ttyGID); b.user && !mapped {
		pts = &ptsNobodys
	}
	b.add("dev/pts", false, false, pts)
	b.add("dev/shm", false, false, &shmTree)
	if l.New.Has(namespaces.IPC) {
		b.add("dev/mqueue", false, false, &mqueueTree)
	}
	b.items = append(b.items, devLinks[:]...)
}

// sysfs reports whether a sandbox with these namespaces of its own may mount one.
func sysfs(kinds namespaces.Kinds) bool {
	return !kinds.Has(namespaces.User) || kinds.Has(namespaces.Network)
}

// ttyGroup is the group that owns terminals on nearly every distribution.
const (
	ttyGroup = "5"
	ttyGID   = 5
)

// mount is what another isolator wants mounted.
func (b *rootBuilder) mount(m Mount) error {
	t := &launch.Tree{Attr: uint64(m.Flags & (MountReadOnly | MountNoSUID | MountNoDev | MountNoExec))}
	file := false
	if m.Flags&MountBind != 0 {
		info, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		t.Bind, file = m.Source, !info.IsDir()
	} else {
		t.Type, t.Source = m.Type, m.Source
		if m.Data != "" {
			t.Options = strings.Split(m.Data, ",")
		}
	}
	b.add(strings.TrimPrefix(path.Clean(m.Target), "/"), true, file, t)
	return nil
}

func (b *rootBuilder) volume(v Volume) error {
	t := &launch.Tree{Attr: attrNoSUID | attrNoDev, Slave: v.Slave}
	if v.ReadOnly {
		t.Attr |= attrReadOnly
	}
	if v.NoExec {
		t.Attr |= attrNoExec
	}
	file := false
	if v.Source == "" {
		mode := v.Mode
		if mode == 0 {
			mode = 0o1777
		}
		t.Type, t.Source, t.Options = "tmpfs", "volume", append(size(v.Size), fmt.Sprintf("mode=%o", mode))
	} else {
		info, err := os.Stat(v.Source)
		if err != nil {
			return err
		}
		t.Bind, file, t.IDMapped = v.Source, !info.IsDir(), v.IDMapped
	}
	b.add(v.Target[1:], true, file, t)
	return nil
}

// protect hides Masked and guards Guarded.
func (b *rootBuilder) protect() {
	guarded, masked := b.Guarded, b.Masked
	if guarded == nil {
		guarded = DefaultGuarded()
	}
	if masked == nil {
		masked = append(DefaultMasked(), throttles()...)
	}
	for _, p := range guarded {
		if _, ok := b.lookup(p); ok {
			b.items = append(b.items, launch.Item{Path: p[1:], Follow: !kernels(p), Attr: quiet | attrReadOnly})
		}
	}
	for _, p := range masked {
		dir, ok := b.lookup(p)
		if !ok {
			continue
		}
		t := devices[0].Mount // /dev/null
		if dir {
			t = &emptyTree
		}
		b.items = append(b.items, launch.Item{Path: p[1:], Follow: !kernels(p), Mount: t})
	}
}

// throttles are where the CPUs tell how hot they were. If the first has none, no
// other does.
func throttles() []string {
	const cpus, throttle = "/sys/devices/system/cpu/cpu", "/thermal_throttle"
	if _, err := os.Stat(cpus + "0" + throttle); err != nil {
		return nil
	}
	list, _ := filepath.Glob(cpus + "*" + throttle)
	return list
}

// kernels reports whether a path is in /proc or /sys.
func kernels(p string) bool { return strings.HasPrefix(p, "/proc/") || strings.HasPrefix(p, "/sys/") }

// lookup finds out whether a path inside is there, and a directory, before the root
// is: what is in /proc and /sys is the kernel's, the same for all.
func (b *rootBuilder) lookup(p string) (dir, ok bool) {
	if !kernels(p) {
		mode, ok := b.lookupFile(p)
		return mode.IsDir(), ok
	}
	if b.Bare || b.noSys && strings.HasPrefix(p, "/sys/") {
		return false, false
	}
	info, err := os.Stat(p)
	return err == nil && info.IsDir(), err == nil
}

// lookupFile looks at a path in the root's directories.
func (r *Root) lookupFile(p string) (fs.FileMode, bool) {
	dirs := r.dirs()
	if r.Upper != "" {
		dirs = append([]string{filepath.Join(r.Upper, "upper")}, dirs...)
	}
	for _, dir := range dirs {
		if mode, err := linux.ModeInRoot(dir, p); err == nil {
			return mode, true
		}
	}
	return 0, false
}
