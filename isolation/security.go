// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/seccomp"
	"github.com/caisson-run/caisson/namespaces"
)

// Switch turns something on or off that has a default of its own: [cgroups.Switch],
// whose zero value leaves it at that.
type Switch = cgroups.Switch

// The positions of a [Switch].
const (
	Default = cgroups.Keep
	On      = cgroups.On
	Off     = cgroups.Off
)

// Security is what keeps the sandbox's processes from the kernel and from others
// besides namespaces, capabilities and no_new_privs. By default each is on for a
// sandbox with a [Root], and off for one that shares the caller's files.
type Security struct {
	// Seccomp filters system calls in the manner of container runtimes: what
	// they allow by default, in the native ABI alone. io_uring, AF_ALG, AF_VSOCK
	// and new user namespaces are not; which others are depends on the
	// capabilities that the process keeps.
	Seccomp Switch `json:"seccomp,omitzero"`

	// Keyring is a session keyring of its own, instead of the caller's.
	Keyring Switch `json:"keyring,omitzero"`

	// Landlock keeps the processes from abstract sockets of others where the
	// network namespace is not the sandbox's own. By default it is missing on
	// kernels without it; On is an error there, unless there are Files for it to hold.
	//
	// Linux 6.12.
	Landlock Switch `json:"landlock,omitzero"`

	// Files are, if there are any, the only files that the processes can open, make,
	// change or execute, whatever their ids may: those of the sandbox's root or, without
	// one, of the machine. Devices, /proc and the program itself are files as well. What
	// is given to them as descriptors, and what can be found out by stat(2), is not held;
	// nothing can be mounted any more. Landlock does it, so a kernel without that is an
	// error of Create that matches [ErrNotSupported]. What an older kernel's does not hold
	// is in [Status] and [Spec.Protections], or with Landlock on an error too.
	//
	// Linux 5.13, better 6.2, all of it 6.10. https://docs.kernel.org/userspace-api/landlock.html
	Files []FileRule `json:"files,omitempty"`
}

// IsZero reports whether all is by default.
func (s Security) IsZero() bool {
	return s.Seccomp == Default && s.Keyring == Default && s.Landlock == Default && len(s.Files) == 0
}

// Scheduling is how the processes of a sandbox are scheduled, besides the weights
// and limits of their group. The zero value of each field is the caller's own.
type Scheduling struct {
	// CPUs are those that the process may run on, within the group's cpuset. It
	// can change this itself.
	CPUs cgroups.Set `json:"cpus,omitzero"`

	Policy   SchedulingPolicy `json:"policy,omitzero"`
	Nice     *int             `json:"nice,omitempty"`    // -20 to 19, of PolicyOther and PolicyBatch
	Priority int              `json:"priority,omitzero"` // 1 to 99, of PolicyFIFO and PolicyRR

	// IOClass and IOLevel, 0 to 7 and 0 the highest, are those of ionice(1).
	IOClass IOClass `json:"ioClass,omitzero"`
	IOLevel int     `json:"ioLevel,omitzero"`

	// Core lets no process of others run on the hardware threads of a core while
	// one of the sandbox does. It is missing where the kernel cannot.
	//
	// Linux 5.14, CONFIG_SCHED_CORE.
	Core bool `json:"core,omitzero"`
}

// SchedulingPolicy is a policy of sched(7).
type SchedulingPolicy string

// The policies; empty is the caller's.
const (
	PolicyOther SchedulingPolicy = "other"
	PolicyBatch SchedulingPolicy = "batch"
	PolicyIdle  SchedulingPolicy = "idle"
	PolicyFIFO  SchedulingPolicy = "fifo"
	PolicyRR    SchedulingPolicy = "rr"
)

// IOClass is a class of ioprio_set(2).
type IOClass string

// The classes; empty is what follows from the scheduling policy.
const (
	IORealtime   IOClass = "realtime"
	IOBestEffort IOClass = "best-effort"
	IOIdle       IOClass = "idle"
)

// Numbers of sched.h and ioprio.h.
var (
	policies  = map[SchedulingPolicy]int{"": 0, PolicyOther: 0, PolicyFIFO: 1, PolicyRR: 2, PolicyBatch: 3, PolicyIdle: 5}
	ioClasses = map[IOClass]int{"": 0, IORealtime: 1, IOBestEffort: 2, IOIdle: 3}
)

func (s Security) validate() (errs []error) {
	for _, v := range []Switch{s.Seccomp, s.Keyring, s.Landlock} {
		if v > Off {
			errs = append(errs, &InvalidError{Field: "security", Value: v.String(), Reason: "no such position"})
		}
	}
	return append(errs, s.validateFiles()...)
}

func (s Scheduling) validate() (errs []error) {
	bad := func(field, value, reason string) {
		errs = append(errs, &InvalidError{Field: "process.scheduling." + field, Value: clip(value), Reason: reason})
	}
	if _, ok := policies[s.Policy]; !ok {
		bad("policy", string(s.Policy), "no such policy")
	}
	realtime := s.Policy == PolicyFIFO || s.Policy == PolicyRR
	switch {
	case realtime && (s.Priority < 1 || s.Priority > 99):
		bad("priority", strconv.Itoa(s.Priority), "not 1 to 99")
	case !realtime && s.Priority != 0:
		bad("priority", strconv.Itoa(s.Priority), "only fifo and rr have one")
	}
	if s.Nice != nil {
		switch {
		case *s.Nice < -20 || *s.Nice > 19:
			bad("nice", strconv.Itoa(*s.Nice), "not -20 to 19")
		case s.Policy != "" && s.Policy != PolicyOther && s.Policy != PolicyBatch:
			bad("nice", strconv.Itoa(*s.Nice), "only other and batch have one")
		}
	}
	if _, ok := ioClasses[s.IOClass]; !ok {
		bad("ioClass", string(s.IOClass), "no such class")
	}
	if s.IOLevel < 0 || s.IOLevel > 7 || s.IOLevel != 0 && (s.IOClass == "" || s.IOClass == IOIdle) {
		bad("ioLevel", strconv.Itoa(s.IOLevel), "not 0 to 7 of realtime or best-effort")
	}
	if s.CPUs.IsDefault() {
		bad("cpus", "default", "not a list of CPUs")
	}
	return errs
}

// IsZero reports whether all is as the caller has it.
func (s Scheduling) IsZero() bool {
	return s.CPUs.IsZero() && s.Policy == "" && s.Nice == nil && s.Priority == 0 && s.IOClass == "" && s.IOLevel == 0 && !s.Core
}

func (s Scheduling) launch() *launch.Scheduling {
	l := &launch.Scheduling{
		Policy: policies[s.Policy], Nice: s.Nice, Priority: s.Priority,
		IOClass: ioClasses[s.IOClass], IOLevel: s.IOLevel, Core: s.Core,
	}
	s.CPUs.Each(func(n int) bool { l.CPUs = append(l.CPUs, n); return true })
	return l
}

// Protection is one part of what keeps a sandbox in.
type Protection struct {
	Name    string `json:"name"` // "seccomp"
	InForce bool   `json:"inForce"`
	Why     string `json:"why"` // what it does, or why it is not there
}

// String is "seccomp: on, ...".
func (p Protection) String() string {
	state := "off"
	if p.InForce {
		state = "on"
	}
	return fmt.Sprintf("%s: %s, %s", p.Name, state, p.Why)
}

// on is the position of a switch in this spec.
func (s *Spec) on(sw Switch) bool { return sw == On || sw == Default && !s.Root.IsZero() }

// scopes tells whether Landlock is to keep the sandbox from others' abstract
// sockets, and why not.
func (s *Spec) scopes() (yes bool, why string) {
	const since = 6
	switch {
	case !s.on(s.Security.Landlock):
		return false, s.offBecause(s.Security.Landlock)
	case s.Security.Landlock == Default && (s.Namespaces.Kinds().Has(namespaces.Network) || s.Network.Mode != ""):
		return false, "the network namespace keeps abstract sockets apart"
	case launch.Landlock() < since:
		return false, "this kernel has no scopes of Landlock, which came with Linux 6.12"
	}
	return true, "abstract sockets of others cannot be reached"
}

func (s *Spec) offBecause(sw Switch) string {
	if sw == Off {
		return "the spec says so"
	}
	return "the sandbox shares the caller's files"
}

// Protections says what keeps a sandbox of this spec in, and what does not and
// why, on this kernel.
func (s Spec) Protections() []Protection {
	var list []Protection
	add := func(name string, on bool, yes, no string) {
		why := no
		if on {
			why = yes
		}
		list = append(list, Protection{name, on, why})
	}
	kinds := s.Namespaces.Kinds()
	if s.Network.Mode != "" {
		kinds = kinds.With(namespaces.KindsOf(namespaces.Network))
	}
	for k := range namespaces.AllKinds.All() {
		add(k.String()+" namespace", kinds.Has(k), "of its own", "the machine's")
	}
	root := !s.Root.IsZero()
	add("root", root, "a file system of its own", "the caller's files")
	add("devices", root && !s.Root.Bare, "only the usual ones can be opened; everything else is mounted nodev", "as the caller's files have them")
	masked := s.Root.Masked == nil || len(s.Root.Masked) > 0
	add("masked paths", root && masked, "what tells of the machine is hidden", "nothing is hidden")
	guarded := s.Root.Guarded == nil || len(s.Root.Guarded) > 0
	add("read-only paths", root && guarded, "the machine's settings cannot be changed through /proc", "/proc is as the kernel has it")
	add("no_new_privs", !s.Process.NewPrivileges, "no program gains privileges", "the spec says so")
	all := len(s.Process.Capabilities) == 1 && s.Process.Capabilities[0] == AllCapabilities
	kept := s.Process.Capabilities
	if kept == nil {
		kept = DefaultCapabilities()
	}
	add("capabilities", !all, cmp.Or(strings.Join(kept, ", "), "none")+", and no more in the bounding set", "what the caller has")
	add("seccomp", s.on(s.Security.Seccomp), "system calls in the manner of container runtimes, native ABI only", s.offBecause(s.Security.Seccomp))
	add("keyring", s.on(s.Security.Keyring), "a session keyring of its own", s.offBecause(s.Security.Keyring))
	scopes, why := s.scopes()
	list = append(list, Protection{"landlock", scopes, why}, s.Security.protectFiles())
	add("descriptors", true, "closed but for those that are given", "")
	add("lsm label", false, "", "none is set: the program runs under the agent's")
	add("core scheduling", s.Process.Scheduling.Core, "asked for; Check says if the kernel cannot", "the spec does not ask for it")
	return list
}

// secure adds to the launch what the spec says of security and scheduling.
func (l *Launch) secure(s *Spec, out *launch.Spec) error {
	out.Keyring = s.on(s.Security.Keyring)
	if s.on(s.Security.Seccomp) {
		out.Seccomp = l.filters.of(l.Capabilities)
	}
	scopes, why := s.scopes()
	if scopes {
		const abstractSockets = 1 << 0 // LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		out.Scoped = abstractSockets
	} else if s.Security.Landlock == On && len(s.Security.Files) == 0 {
		return &UnsupportedError{Feature: "landlock", Reason: why}
	}
	if _, err := s.Security.filesLack(launch.Landlock()); err != nil {
		return err
	}
	out.FileRules = s.Security.launchFiles()
	out.Reaper = s.Process.Reaper
	if out.OOMScoreAdj = s.Process.OOMScoreAdj; out.OOMScoreAdj == nil {
		if adj := s.Class.OOMScoreAdj(); adj != 0 { // raising it needs no privilege
			out.OOMScoreAdj = &adj
		}
	}
	if !s.Process.Scheduling.IsZero() {
		out.Scheduling = s.Process.Scheduling.launch()
	}
	return nil
}

// filters keeps the filter that was asked for last: nearly all sandboxes have the
// same capabilities, and to compile one takes as long as a few mounts.
type filters struct {
	mu           sync.Mutex
	capabilities uint64
	filter       []byte
}

// of is the filter for these capabilities. It is not to be changed.
func (f *filters) of(capabilities uint64) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.filter == nil || f.capabilities != capabilities {
		f.capabilities, f.filter = capabilities, seccomp.Default(capabilities)
	}
	return f.filter
}
