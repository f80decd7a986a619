// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Root is a root file system that the child assembles in its new mount
// namespace and changes into. Nothing of it is ever seen outside that namespace,
// so nothing is left of it when a step fails.
//
// What is inside may be hostile: every path of an Item is resolved by the kernel
// with RESOLVE_IN_ROOT, so no link in there leads a mount, a file or a device
// outside.
type Root struct {
	Tree     Tree   // what becomes "/": Bind, FD or Overlay
	Items    []Item // made in order
	ReadOnly bool   // "/" itself turns read-only once Items are made
}

// Tree is something to mount: exactly one of Bind, FD, Overlay and Type.
type Tree struct {
	// Bind is a file or directory in the caller's view, with what is mounted
	// below it. It is the caller's word: links in it are followed.
	Bind string

	// IDMapped has what is bound belong inside to whom it belongs outside: id 0 on the
	// file system is 0 of the new user namespace. The caller's process makes that
	// mount; it takes CAP_SYS_ADMIN over the file system, which has to allow it.
	//
	// Linux 5.12.
	IDMapped bool

	// FD is a detached mount, as open_tree(2) and fsmount(2) give one; it stays
	// the caller's, and is used up.
	FD *File

	Overlay *Overlay // only as Root.Tree

	// Type is a new file system of this type.
	Type, Source string
	Options      []string // "size=64m", "newinstance"

	Attr  uint64 // MOUNT_ATTR_*; for what is bound, of all below it as well
	Slave bool   // mounts that the caller makes below Bind later arrive; needs Propagation Slave
}

// Overlay is directories on top of each other.
type Overlay struct {
	Lower []string // read-only, the topmost first

	// Upper takes what is written, Work is an empty directory beside it. Without
	// both they are in memory. Options are of the tmpfs: "size=64m".
	Upper, Work string
	Options     []string

	// IDMapped is that of [Tree], for all of these directories. Upper and Work have to
	// be in one directory then.
	//
	// Linux 5.19.
	IDMapped bool

	// Unprivileged marks deleted files by attributes that an unprivileged user
	// namespace may set.
	//
	// Linux 5.11.
	Unprivileged bool
}

// dirs are all directories that the caller has to have.
func (o *Overlay) dirs() []string {
	if o.Upper == "" {
		return o.Lower
	}
	return append(append([]string(nil), o.Lower...), o.Upper, o.Work)
}

// Item is something in a Root.
type Item struct {
	// Path is relative to the root, without "." and "..".
	Path string

	// Follow lets Path have links, which are resolved inside the root. Without
	// it one is an error, ELOOP; but a file that was to be made in a directory, and
	// is a link, has Mount put on itself.
	Follow bool

	// Make is what is made at Path first. A directory or file that is there
	// already will do.
	Make   Make
	Mode   uint32
	Device uint64 // of a [MakeDevice]
	Link   string // of a [MakeLink]

	// Mount goes on Path, if not nil. What several Items share is one mount, again and
	// again, without anything that is mounted on it.
	Mount *Tree

	// Attr is given to what Path is, and all below it, by a mount of it on
	// itself.
	Attr uint64
}

// Make says what an Item makes.
type Make uint8

// What an Item can make.
const (
	MakeNothing Make = iota
	MakeDirectory
	MakeFile
	MakeLink
	MakeDevice // a character device
)

// idMapped reports whether anything is.
func (r *Root) idMapped() bool {
	o := r.Tree.Overlay
	return r.Tree.IDMapped || o != nil && o.IDMapped || slices.ContainsFunc(r.Items, func(i Item) bool { return i.Mount != nil && i.Mount.IDMapped })
}

// descriptors are those that trees are given by.
func (r *Root) descriptors() (fds []int) {
	if r.Tree.FD != nil {
		fds = append(fds, r.Tree.FD.FD)
	}
	for i := range r.Items {
		if m := r.Items[i].Mount; m != nil && m.FD != nil {
			fds = append(fds, m.FD.FD)
		}
	}
	return fds
}

func (s *Spec) checkRoot() error {
	r := s.Root
	if r == nil {
		return nil
	}
	switch {
	case s.Namespaces&NewMount == 0:
		return bad("Root", true, errors.New("needs NewMount in Namespaces"))
	case len(s.Mounts) > 0:
		return bad("Mounts", len(s.Mounts), errors.New("a Root has Items instead"))
	}
	for i, c := range s.Calls {
		if c.At != Last && !c.NoFiles {
			return bad(fmt.Sprintf("Calls[%d].NoFiles", i), false, errors.New("with a Root, descriptors are at hand for Last alone"))
		}
	}
	if err := r.Tree.check(s); err != nil {
		return within("Root.Tree", err)
	}
	if r.Tree.Type != "" {
		return bad("Root.Tree.Type", r.Tree.Type, errors.New("an empty file system has no program"))
	}
	for i := range r.Items {
		if err := r.Items[i].check(s); err != nil {
			return within(at("Root.Items", i), err)
		}
	}
	return nil
}

// within puts a field's error down to the field that it is in: names are made only if
// something is wrong.
func within(field string, err error) error {
	var in *SpecError
	if errors.As(err, &in) {
		in.Field = field + in.Field
	}
	return err
}

func (i *Item) check(s *Spec) error {
	if i.Path == "" || i.Path == "." || i.Path[0] == '/' || path.Clean(i.Path) != i.Path || i.Path == ".." || strings.HasPrefix(i.Path, "../") {
		return bad(".Path", i.Path, errors.New("is no clean path below the root"))
	}
	for _, v := range []string{i.Path, i.Link} {
		if err := checkString("", v); err != nil {
			return err
		}
	}
	switch {
	case i.Attr&^attrs != 0:
		return bad(".Attr", i.Attr, errors.New("has bits beyond read-only, nosuid, nodev and noexec"))
	case i.Make > MakeDevice:
		return bad(".Make", i.Make, errors.New("is nothing to make"))
	case i.Make == MakeLink && i.Link == "":
		return bad(".Link", i.Link, errEmpty)
	case i.Mode > 0o7777:
		return bad(".Mode", i.Mode, errors.New("has bits beyond 07777"))
	case i.Mount == nil:
		return nil
	case i.Attr != 0:
		return bad(".Attr", i.Attr, errors.New("is for what is there; Mount has its own"))
	case i.Mount.Overlay != nil:
		return bad(".Mount", "Overlay", errors.New("can only be the root itself"))
	}
	if err := i.Mount.check(s); err != nil {
		return within(".Mount", err)
	}
	return nil
}

func (t *Tree) check(s *Spec) error {
	given := 0
	for _, is := range []bool{t.Bind != "", t.FD != nil, t.Overlay != nil, t.Type != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return bad("", given, errors.New("wants one of Bind, FD, Overlay and Type"))
	}
	if idmapped := t.IDMapped || t.Overlay != nil && t.Overlay.IDMapped; idmapped {
		switch {
		case s.Namespaces&NewUser == 0:
			return bad(".IDMapped", true, errors.New("needs NewUser in Namespaces"))
		case t.IDMapped && t.Bind == "":
			return bad(".IDMapped", true, errors.New("is for what is bound"))
		case len(s.Calls) > 0:
			return bad(".IDMapped", true, errors.New("a call may name any descriptor"))
		case t.Overlay != nil && path.Dir(t.Overlay.Upper) != path.Dir(t.Overlay.Work):
			return bad(".Overlay.Work", t.Overlay.Work, errors.New("is not beside Upper"))
		}
	}
	if t.FD != nil && t.FD.FD < 0 {
		return bad(".FD", t.FD.FD, errNegative)
	}
	if t.Attr&^attrs != 0 {
		return bad(".Attr", t.Attr, errors.New("has bits beyond read-only, nosuid, nodev and noexec"))
	}
	if t.Slave && s.Propagation != Slave {
		return bad(".Slave", true, errors.New("needs Propagation Slave"))
	}
	words := [5][]string{{t.Bind, t.Type, t.Source}, t.Options}
	if o := t.Overlay; o != nil {
		words[2], words[3], words[4] = []string{o.Upper, o.Work}, o.Lower, o.Options
		switch {
		case len(o.Lower) == 0 || len(o.Lower) > maxLayers:
			return bad(".Overlay.Lower", len(o.Lower), fmt.Errorf("takes 1 to %d directories", maxLayers))
		case (o.Upper == "") != (o.Work == ""):
			return bad(".Overlay.Work", o.Work, errors.New("goes with Upper"))
		}
	}
	for _, list := range words {
		for _, w := range list {
			if err := checkString("", w); err != nil {
				return err
			}
			// What fsconfig(2) takes of a string.
			if t.Type != "" && len(w) > 255 {
				return bad(".Options", w, errors.New("longer than 255 bytes"))
			}
		}
	}
	return nil
}

// attrs are those of MOUNT_ATTR_* that mount(2) has by the same numbers.
const attrs = 0xf

// maxLayers is how many fit into the page that mount(2) takes as data.
const maxLayers = 160
