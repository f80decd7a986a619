// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

func (r *reader) root() {
	root := r.spec.Root
	if root == nil || !path.IsAbs(root.Path) {
		r.bad("root.path", fmt.Sprint(root), "not an absolute path")
		return
	}
	out := &r.s.Root
	out.Path, out.ReadOnly = root.Path, root.Readonly
	there := r.mounts()
	if !there["/proc"] && !there["/sys"] && !there["/dev"] {
		out.Bare = true
		r.leave("mounts", "/dev", "without one there are no devices")
	} else {
		r.lacking(there)
	}
	out.Masked = without(r.linux.MaskedPaths, isolation.DefaultMasked())
	out.Guarded = without(r.linux.ReadonlyPaths, isolation.DefaultGuarded())
	switch p := r.linux.RootfsPropagation; p {
	case "", "private", "rprivate":
	case "slave", "rslave":
		if slices.ContainsFunc(out.Volumes, func(v isolation.Volume) bool { return v.Slave }) {
			break
		}
		fallthrough
	default:
		r.leave("linux.rootfsPropagation", p, "mounts of a root are private, but for volumes that say slave")
	}
}

// without is a list of paths, nil if it says what is the default. What a CPU has of
// its throttling is masked by default where it is.
func without(list, usual []string) []string {
	rest := slices.DeleteFunc(slices.Clone(list), func(p string) bool {
		ok, _ := path.Match("/sys/devices/system/cpu/cpu*/thermal_throttle", p)
		return ok
	})
	if sameSet(rest, usual) {
		return nil
	}
	return append([]string{}, list...)
}

// standards are the mounts that a root has by itself, and the options that
// generators of configurations give them, whose effect is that of the native
// driver's own or less.
var standards = []struct {
	at, kind string
	options  []string
}{
	{"/proc", "proc", nil},
	{"/sys", "sysfs", []string{"ro"}},
	{"/dev", "tmpfs", []string{"mode=755", "mode=0755", "size=64k", "size=65536k"}},
	{"/dev/pts", "devpts", []string{"newinstance", "ptmxmode=0666", "ptmxmode=666", "mode=0620", "mode=620", "gid=5"}},
	{"/dev/shm", "tmpfs", []string{"mode=1777", "size=64m", "size=65536k", "size=67108864"}},
	{"/dev/mqueue", "mqueue", nil},
}

// everywhere are options that every standard mount may have.
var everywhere = []string{"nosuid", "noexec", "nodev", "relatime", "strictatime", "rw"}

// lacking names what is there without being asked for.
func (r *reader) lacking(there map[string]bool) {
	kinds := r.s.Namespaces.Kinds()
	for _, std := range standards {
		switch {
		case there[std.at]:
		case std.at == "/sys" && kinds.Has(namespaces.User) && !kinds.Has(namespaces.Network):
		case std.at == "/dev/mqueue" && !kinds.Has(namespaces.IPC):
		default:
			r.leave("mounts", std.at, "it is there all the same")
		}
	}
}

// mounts sorts the mounts into standard ones, which it returns, and volumes.
func (r *reader) mounts() (there map[string]bool) {
	there = make(map[string]bool)
	for i, m := range r.spec.Mounts {
		field := fmt.Sprintf("mounts[%d]", i)
		at := path.Clean(m.Destination)
		if !path.IsAbs(at) {
			r.bad(field+".destination", m.Destination, "not an absolute path")
			continue
		}
		if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
			r.leave(field+".uidMappings", at, "mounts have no id maps")
		}
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		if !bind && r.standard(field, at, m, there) {
			continue
		}
		switch {
		case at == "/":
			r.leave(field, m.Type+" at /", "root is what is there")
		case bind:
			r.bind(field, at, m)
		case m.Type == "tmpfs":
			r.memory(field, at, m)
		default:
			r.leave(field, m.Type+" at "+at, "only files, directories and memory are mounted")
		}
	}
	return there
}

// standard reports whether a mount is one that a root has by itself.
func (r *reader) standard(field, at string, m specs.Mount, there map[string]bool) bool {
	for _, std := range standards {
		if std.at != at || std.kind != m.Type || there[at] {
			continue
		}
		there[at] = true
		granted := func(o string) bool { return slices.Contains(std.options, o) || slices.Contains(everywhere, o) }
		sized := func(o string) bool { return strings.HasPrefix(o, "size=") && granted(o) }
		if at == "/dev/shm" && !slices.ContainsFunc(m.Options, sized) {
			return false // memory of another size, on top of it
		}
		for _, o := range m.Options {
			if !granted(o) {
				r.leave(field+".options", o, at+" is as every sandbox has it")
			}
		}
		if at == "/sys" && !slices.Contains(m.Options, "ro") {
			r.leave(field+".options", "rw", "/sys is read-only")
		}
		return true
	}
	return false
}

// Mount options that say what holds anyway.
var implied = []string{
	"nosuid", "rnosuid", "nodev", "rnodev", "private", "rprivate", "exec", "rexec", "rw", "rrw", "relatime", "rrelatime", "rbind", "defaults",
}

func (r *reader) bind(field, at string, m specs.Mount) {
	v := isolation.Volume{Target: at, Source: m.Source}
	if !path.IsAbs(m.Source) {
		r.bad(field+".source", m.Source, "not an absolute path")
		return
	}
	for _, o := range m.Options {
		switch o {
		case "ro", "rro":
			v.ReadOnly = true
		case "rw", "rrw":
			v.ReadOnly = false
		case "noexec", "rnoexec":
			v.NoExec = true
		case "exec", "rexec":
			v.NoExec = false
		case "slave", "rslave":
			v.Slave = true
		case "private", "rprivate":
			v.Slave = false
		case "bind":
			if !slices.Contains(m.Options, "rbind") {
				r.leave(field+".options", o, "what is mounted below the source is there too")
			}
		default:
			r.option(field, o)
		}
	}
	r.s.Root.Volumes = append(r.s.Root.Volumes, v)
}

func (r *reader) memory(field, at string, m specs.Mount) {
	v := isolation.Volume{Target: at}
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "ro":
			v.ReadOnly = true
		case "rw":
			v.ReadOnly = false
		case "noexec":
			v.NoExec = true
		case "exec":
			v.NoExec = false
		case "size":
			var ok bool
			if v.Size, ok = size(value); !ok {
				v.Size = 0
				r.leave(field+".options", o, "not a number of bytes above 0")
			}
		case "mode":
			mode, err := strconv.ParseUint(value, 8, 12)
			if v.Mode = uint32(mode); err != nil || mode == 0 {
				v.Mode = 0
				r.leave(field+".options", o, "not the mode of a directory")
			}
			if v.Mode == 0o1777 {
				v.Mode = 0 // the default
			}
		default:
			r.option(field, o)
		}
	}
	r.s.Root.Volumes = append(r.s.Root.Volumes, v)
}

func (r *reader) option(field, o string) {
	if !slices.Contains(implied, o) {
		r.leave(field+".options", o, "volumes do not have it")
	}
}

// size is a number of bytes as tmpfs reads it, with k, m or g. 0 would mean no
// limit.
func size(s string) (uint64, bool) {
	shift := 0
	if s != "" {
		shift = 10 * (1 + strings.IndexByte("kmg", s[len(s)-1]|0x20))
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n << shift, err == nil && n != 0 && n <= math.MaxInt64>>shift
}
