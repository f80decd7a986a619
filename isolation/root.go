// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Root is a root file system of the sandbox's own. The zero value leaves it the
// caller's.
//
// Exactly one of Path and Layers is given. All of it is made in the sandbox's
// mount namespace and is gone with it, but for what the sandbox writes to Path or
// Upper. What is in these directories may be hostile: no link in there leads a
// mount outside, and no device file on them can be opened.
//
// Unless Bare, there are /proc, /sys (read-only) and /dev with the usual devices,
// which the directory needs to have mount points for. With Layers, missing ones
// are made in the sandbox's own layer; in Path nothing is made, so there they
// have to exist.
//
// In a new user namespace the directories have to be readable for the ids that
// it maps, unless IDMapped.
type Root struct {
	// Path is a directory that becomes "/" as it is.
	Path string `json:"path,omitzero"`

	// Layers are directories on top of each other, the topmost first, which are
	// only read: an overlay, whose changes go elsewhere.
	Layers []string `json:"layers,omitempty"`

	// Upper is where changes to Layers go, and stay: the directories "upper" and
	// "work" in there, which are made if they are missing. Empty is memory, which
	// counts as the sandbox's and is gone with it. They are the caller's: neither
	// Destroy nor Open removes them.
	Upper string `json:"upper,omitzero"`

	// Size is the most that the sandbox may write to Layers, in bytes. In memory 0 is the
	// kernel's default, half of the machine's. With an Upper it is a quota of that
	// directory, which stays when the sandbox goes, and 0 leaves it as it is. That takes a
	// file system with project quotas (ext4 or xfs, mounted with prjquota), a host that is
	// root's, an Upper that was empty at first and is in no project of others, or matches
	// [ErrNotSupported]; and a new user namespace, since the machine's root is held by no
	// quota, and who owns a file could take it out of the project.
	//
	// Linux 5.14 for an Upper.
	Size uint64 `json:"size,omitzero"`

	// IDMapped has Path, Layers and Upper belong to the sandbox's own users, without
	// a chown: what is root's on the disk is that of the root inside, and what he
	// makes is root's on the disk. It needs a new user namespace, and a host that is
	// root's. A file system that does not allow it is an error of Start that matches
	// [ErrNotSupported].
	//
	// Linux 5.12, with Layers 5.19; ext4 and xfs with both, other file systems later.
	IDMapped bool `json:"idMapped,omitzero"`

	// ReadOnly makes "/" read-only, but not the volumes on it.
	ReadOnly bool `json:"readOnly,omitzero"`

	// Bare leaves out /proc, /sys and /dev.
	Bare bool `json:"bare,omitzero"`

	// Volumes are mounted in order.
	Volumes []Volume `json:"volumes,omitempty"`

	// Masked are paths that the sandbox finds empty, and Guarded those that it
	// can only read, as far as they exist. nil is [DefaultMasked] and
	// [DefaultGuarded]; an empty list is none.
	Masked  []string `json:"masked"`
	Guarded []string `json:"guarded"`
}

// Volume is something mounted in a [Root]: a file or directory of the machine, or
// memory. No set-user-id bit counts on it, and no device can be opened.
type Volume struct {
	// Target is where, an absolute path inside. Links in it are followed,
	// inside the root.
	Target string `json:"target"`

	// Source is a file or directory of the machine, with what is mounted below
	// it. Empty is a directory in memory.
	Source string `json:"source,omitzero"`

	// IDMapped is that of [Root], for Source and what is mounted below it.
	IDMapped bool `json:"idMapped,omitzero"`

	ReadOnly bool `json:"readOnly,omitzero"`
	NoExec   bool `json:"noExec,omitzero"` // no program can be run from it

	// Slave has what the machine mounts below Source later appear inside, and
	// what it unmounts disappear.
	Slave bool `json:"slave,omitzero"`

	// Size in bytes and Mode are of a directory in memory. 0 is half of the
	// machine's memory, and 01777.
	Size uint64 `json:"size,omitzero"`
	Mode uint32 `json:"mode,omitzero"`
}

// DefaultMasked are the paths that container runtimes hide by default: they tell
// of the machine or of its kernel's memory.
func DefaultMasked() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

// DefaultGuarded are the paths that container runtimes make read-only by default:
// through them the machine is changed.
func DefaultGuarded() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// IsZero reports whether the sandbox has the caller's root.
func (r Root) IsZero() bool {
	return r.Path == "" && r.Layers == nil && r.Upper == "" && r.Size == 0 && !r.IDMapped && !r.ReadOnly && !r.Bare &&
		r.Volumes == nil && r.Masked == nil && r.Guarded == nil
}

// Clone is a copy that shares nothing with r.
func (r Root) Clone() Root {
	r.Layers, r.Volumes = slices.Clone(r.Layers), slices.Clone(r.Volumes)
	r.Masked, r.Guarded = slices.Clone(r.Masked), slices.Clone(r.Guarded)
	return r
}

// idMapped reports whether anything is.
func (r Root) idMapped() bool {
	return r.IDMapped || slices.ContainsFunc(r.Volumes, func(v Volume) bool { return v.IDMapped })
}

func (r Root) validate() []error {
	var errs []error
	bad := func(field, value, reason string) {
		errs = append(errs, &InvalidError{Field: "root." + field, Value: clip(value), Reason: reason})
	}
	absolute := func(field, p string) {
		if !filepath.IsAbs(p) || strings.IndexByte(p, 0) >= 0 {
			bad(field, p, "not an absolute path")
		}
	}
	inside := func(field, p string) {
		if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || strings.IndexByte(p, 0) >= 0 {
			bad(field, p, "not a clean absolute path below /")
		}
	}
	switch {
	case r.Path == "" && len(r.Layers) == 0:
		bad("path", "", "neither a path nor layers are given")
	case r.Path != "" && len(r.Layers) > 0:
		bad("path", r.Path, "layers are given too")
	case r.Path != "":
		absolute("path", r.Path)
	}
	if r.Path != "" && (r.Upper != "" || r.Size != 0) {
		bad("upper", r.Upper, "only changes to layers go elsewhere")
	}
	if len(r.Layers) > maxLayers {
		bad("layers", strconv.Itoa(len(r.Layers)), "more than "+strconv.Itoa(maxLayers))
	}
	for _, l := range r.Layers {
		absolute("layers", l)
	}
	if r.Upper != "" {
		absolute("upper", r.Upper)
	}
	for _, v := range r.Volumes {
		inside("volumes.target", v.Target)
		switch {
		case v.Source != "":
			absolute("volumes.source", v.Source)
			if v.Size != 0 || v.Mode != 0 {
				bad("volumes.size", v.Target, "size and mode are for memory")
			}
		case v.IDMapped:
			bad("volumes.idMapped", v.Target, "memory is the sandbox's own")
		case v.Slave:
			bad("volumes.slave", v.Target, "nothing is mounted below memory by others")
		case v.Mode > 0o7777:
			bad("volumes.mode", strconv.FormatUint(uint64(v.Mode), 8), "bits beyond 07777")
		}
	}
	for _, v := range r.Volumes {
		if v.IDMapped && v.Slave {
			bad("volumes.idMapped", v.Target, "what is mounted there later would not be")
		}
	}
	for _, p := range r.Masked {
		inside("masked", p)
	}
	for _, p := range r.Guarded {
		inside("guarded", p)
	}
	return errs
}

// maxLayers is how many layers one mount(2) takes, see internal/launch.
const maxLayers = 160
