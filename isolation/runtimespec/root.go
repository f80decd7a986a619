// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// root is the root file system and what is mounted on it.
func (w *writer) root() {
	r := &w.s.Root
	if r.IsZero() {
		w.leave("root", "", "a runtime gives every container a root of its own")
		return
	}
	w.spec.Root = &specs.Root{Path: r.Path, Readonly: r.ReadOnly}
	if r.Path == "" {
		if w.spec.Root.Path = w.cfg.Rootfs; w.cfg.Rootfs == "" {
			w.leave("root.layers", fmt.Sprint(r.Layers), "somebody has to mount them")
		}
	}
	if r.IDMapped {
		w.leave("root.idMapped", true, "a runtime does not map the ids of a root")
	}
	if r.Bare {
		w.leave("root.bare", true, "a runtime makes devices in every root")
	} else {
		w.spec.Mounts = w.standard()
	}
	for _, v := range r.Volumes {
		w.spec.Mounts = append(w.spec.Mounts, volume(v))
		if v.IDMapped {
			w.leave("root.volumes.idMapped", v.Target, "runtimes pass over the ids of a mount, unless they know release 1.1 of the specification")
		}
		if v.Slave {
			w.spec.Linux.RootfsPropagation = "rslave"
		}
	}
	if w.spec.Linux.MaskedPaths = r.Masked; r.Masked == nil {
		w.spec.Linux.MaskedPaths = isolation.DefaultMasked()
	}
	if w.spec.Linux.ReadonlyPaths = r.Guarded; r.Guarded == nil {
		w.spec.Linux.ReadonlyPaths = isolation.DefaultGuarded()
	}
}

// standard is /proc, /sys and /dev.
func (w *writer) standard() []specs.Mount {
	list := []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}}
	if user := w.kinds.Has(namespaces.User); !user || w.kinds.Has(namespaces.Network) && !w.joins {
		list = append(list, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}})
	} else {
		w.leave("root.bare", false, "there is no /sys: the kernel has one only for the owner of the network namespace")
	}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if _, mapped := w.s.Namespaces.GIDMap.Outside(ttyGroup); mapped || !w.kinds.Has(namespaces.User) {
		pts = append(pts, fmt.Sprintf("gid=%d", ttyGroup))
	}
	list = append(list,
		specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k"}},
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=64m"}})
	if w.kinds.Has(namespaces.IPC) {
		list = append(list, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}})
	}
	return list
}

// ttyGroup is the gid that owns terminals on nearly every distribution.
const ttyGroup = 5

// volume is a bind mount or memory. What holds for a bind mount holds for what is
// mounted below it too: "rro" and its like are newer than "ro" (mount_setattr(2),
// Linux 5.12), and a runtime that does not know them does what it can.
func volume(v isolation.Volume) specs.Mount {
	m := specs.Mount{Destination: v.Target, Type: "bind", Source: v.Source}
	option := func(on bool, name string) {
		if on {
			m.Options = append(m.Options, name)
			if v.Source != "" {
				m.Options = append(m.Options, "r"+name)
			}
		}
	}
	if v.Source == "" {
		m.Type, m.Source = "tmpfs", "tmpfs"
		mode := v.Mode
		if mode == 0 {
			mode = 0o1777
		}
		m.Options = append(m.Options, fmt.Sprintf("mode=%o", mode))
		if v.Size != 0 {
			m.Options = append(m.Options, fmt.Sprintf("size=%d", v.Size))
		}
	} else {
		m.Options = append(m.Options, "rbind", "rprivate")
		if v.Slave {
			m.Options[1] = "rslave"
		}
	}
	option(true, "nosuid")
	option(true, "nodev")
	option(v.ReadOnly, "ro")
	option(v.NoExec, "noexec")
	return m
}
