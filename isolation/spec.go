// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/isolation/logs"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// Spec is what a sandbox is to be: plain data, without I/O, kept on disk as
// JSON.
type Spec struct {
	// ID names the sandbox on its host; see [ValidateID].
	ID string `json:"id"`

	// Driver is the name of the driver; empty is the native one.
	Driver string `json:"driver,omitzero"`

	// Class is how the sandbox ranks against its neighbours. It decides about
	// limits that Resources leaves open (see [elastic.Class.Limits]), about the
	// priority of packets that Network leaves open (see
	// [elastic.Class.NetworkPriority]),
	// about the group that the sandbox's is made in (see [elastic.Class.Together]),
	// and about who is squeezed for whom by an [elastic.Controller].
	Class elastic.Class `json:"class,omitzero"`

	// Labels are the caller's own; see [Selector].
	Labels map[string]string `json:"labels,omitempty"`

	Process    Process           `json:"process"`
	Resources  cgroups.Resources `json:"resources,omitzero"`
	Namespaces Namespaces        `json:"namespaces,omitzero"`

	// Network is the sandbox's network; the zero value leaves it to Namespaces.
	// Addresses, ports and limits of bandwidth are its own. Its network namespace
	// is there before its processes are and belongs to the machine also if they
	// have a new user namespace: root in there uses the network, on every port and
	// for echo requests too, but changes nothing about it, its limits above all.
	Network netns.Spec `json:"network,omitzero"`

	// Root is a root file system of the sandbox's own; the zero value leaves it
	// the caller's.
	Root Root `json:"root,omitzero"`

	// Security is what keeps the processes in besides all that.
	Security Security `json:"security,omitzero"`

	// Logs keeps what the process writes to its standard output and error, where
	// Start is given no files for them; nil is /dev/null. See [Sandbox.Logs].
	Logs *logs.Config `json:"logs,omitempty"`

	// Hostname is the name in a UTS namespace of its own; empty is the ID.
	Hostname string `json:"hostname,omitzero"`

	// Controllers are those that the sandbox is put under; 0 is all that the
	// machine has. A smaller set makes create and destroy faster on cgroup v1.
	// An update that names a controller outside the set adds it.
	Controllers cgroups.Controllers `json:"controllers,omitzero"`

	// Subgroups has the processes be in groups below the sandbox's own: the first
	// one in "main". So, on cgroup v2, the groups of [Sandbox.ExecGroup] can have
	// limits. It has no effect where v1 has all controllers, and they can anyway.
	Subgroups bool `json:"subgroups,omitzero"`
}

// Process is the sandbox's first process.
type Process struct {
	// Args are the program and its arguments. A program without a slash is
	// looked up in the PATH of Env, else in the usual directories.
	Args []string `json:"args"`

	// Env is the whole environment, "NAME=value" each; the caller's own is
	// not inherited.
	Env []string `json:"env,omitempty"`

	// Dir is the working directory, an absolute path; empty is "/".
	Dir string `json:"dir,omitzero"`

	// User is whom it runs as, inside the sandbox.
	User User `json:"user,omitzero"`

	// Capabilities are those it keeps, by the kernel's names ("CAP_CHOWN").
	// nil keeps [DefaultCapabilities]; an empty list keeps none; the one word
	// "ALL" keeps what the caller has.
	Capabilities []string `json:"capabilities"`

	// NewPrivileges lets it gain privileges by executing set-user-id files.
	// By default no_new_privs is set.
	NewPrivileges bool `json:"newPrivileges,omitzero"`

	// Reaper has a small process of ours be the first of the pid namespace, and
	// this one its child. It reaps processes that are left to it, passes on the
	// signals that it gets, and ends as its child ends: with 128 and the signal's
	// number if that was a signal. Without it, the process is the first itself,
	// and is to do what an init does; signals that it has no handler for do not
	// reach it.
	Reaper bool `json:"reaper,omitzero"`

	// Terminal makes descriptor 0, a terminal, the controlling one of its session.
	Terminal bool `json:"terminal,omitzero"`

	// OOMScoreAdj says how soon the kernel kills it for lack of memory, -1000
	// (never) to 1000; nil is that of the class, or the caller's. Less than that takes
	// CAP_SYS_RESOURCE.
	OOMScoreAdj *int `json:"oomScoreAdj,omitempty"`

	Scheduling Scheduling `json:"scheduling,omitzero"`

	// Rlimits are its resource limits, at most one entry a name. The others
	// are the caller's; of "nofile", which Go raises for itself, those that the
	// caller was started with, unless it has set others.
	Rlimits []Rlimit `json:"rlimits,omitempty"`
}

// User is the identity of a process.
type User struct {
	UID    uint32   `json:"uid,omitzero"`
	GID    uint32   `json:"gid,omitzero"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Rlimit is one limit of setrlimit(2).
type Rlimit struct {
	Name string `json:"name"` // "nofile", "core": as in prlimit(1)
	Soft uint64 `json:"soft"` // RLIM_INFINITY is the largest uint64
	Hard uint64 `json:"hard"`
}

// NamespaceMode says whose namespace of one kind a sandbox is in.
type NamespaceMode uint8

// The choices of a [NamespaceMode].
const (
	// NamespaceDefault is new for pid, mount, ipc, uts and cgroup, and the
	// host's for network, user and time.
	NamespaceDefault NamespaceMode = iota
	NamespaceNew                   // one of its own
	NamespaceHost                  // the caller's
)

// Namespaces chooses a namespace of each kind; see [NamespaceDefault] for the zero
// value.
type Namespaces struct {
	PID     NamespaceMode `json:"pid,omitzero"`
	Mount   NamespaceMode `json:"mount,omitzero"`
	IPC     NamespaceMode `json:"ipc,omitzero"`
	UTS     NamespaceMode `json:"uts,omitzero"`
	Network NamespaceMode `json:"network,omitzero"` // new: only a loopback device, up
	Cgroup  NamespaceMode `json:"cgroup,omitzero"`
	User    NamespaceMode `json:"user,omitzero"` // new: UIDMap and GIDMap say who is who
	Time    NamespaceMode `json:"time,omitzero"`

	// UIDMap and GIDMap map ids of a new user namespace. Both or neither.
	UIDMap namespaces.IDMaps `json:"uidMap,omitempty"`
	GIDMap namespaces.IDMaps `json:"gidMap,omitempty"`

	// Monotonic and Boottime are how far CLOCK_MONOTONIC and CLOCK_BOOTTIME of a new
	// time namespace are ahead of the machine's, or behind if negative: no clock may
	// be before 0.
	Monotonic time.Duration `json:"monotonic,omitzero"`
	Boottime  time.Duration `json:"boottime,omitzero"`
}

// Kinds is the set of namespaces that the sandbox gets of its own.
func (n Namespaces) Kinds() namespaces.Kinds {
	var ks namespaces.Kinds
	for _, c := range []struct {
		kind  namespaces.Kind
		mode  NamespaceMode
		isNew bool // what NamespaceDefault means
	}{
		{namespaces.PID, n.PID, true},
		{namespaces.Mount, n.Mount, true},
		{namespaces.IPC, n.IPC, true},
		{namespaces.UTS, n.UTS, true},
		{namespaces.Cgroup, n.Cgroup, true},
		{namespaces.Network, n.Network, false},
		{namespaces.User, n.User, false},
		{namespaces.Time, n.Time, false},
	} {
		if c.mode == NamespaceNew || c.mode == NamespaceDefault && c.isNew {
			ks = ks.With(namespaces.KindsOf(c.kind))
		}
	}
	return ks
}

// String is "default", "new" or "host".
func (m NamespaceMode) String() string {
	switch m {
	case NamespaceDefault:
		return "default"
	case NamespaceNew:
		return "new"
	case NamespaceHost:
		return "host"
	}
	return "mode(" + strconv.Itoa(int(m)) + ")"
}

// MarshalText is [NamespaceMode.String].
func (m NamespaceMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what [NamespaceMode.String] writes.
func (m *NamespaceMode) UnmarshalText(text []byte) error {
	for _, known := range []NamespaceMode{NamespaceDefault, NamespaceNew, NamespaceHost} {
		if string(text) == known.String() {
			*m = known
			return nil
		}
	}
	return &InvalidError{Field: "namespace", Value: clip(string(text)), Reason: `not "default", "new" or "host"`}
}

// Validate reports everything that is wrong with the spec, without looking at
// the machine: each part of the joined error is an [*InvalidError].
func (s Spec) Validate() error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	bad := func(field, value, reason string) {
		errs = append(errs, &InvalidError{Field: field, Value: clip(value), Reason: reason})
	}
	add(ValidateID(s.ID))
	errs = append(errs, validateLabels(s.Labels)...)
	if s.Logs != nil {
		errs = append(errs, s.Logs.Validate())
	}
	add(s.Resources.Validate())
	if !s.Class.Valid() {
		bad("class", s.Class.String(), "no such class")
	}
	if len(s.Hostname) > maxID || strings.ContainsAny(s.Hostname, "\x00/") || !printable(s.Hostname) {
		bad("hostname", s.Hostname, "not at most 64 printable bytes")
	}
	if ks := s.Namespaces.Kinds(); ks.Has(namespaces.PID) && !ks.Has(namespaces.Mount) {
		bad("namespaces.mount", s.Namespaces.Mount.String(), "a new pid namespace needs a mount namespace for its own /proc")
	}
	for _, m := range []NamespaceMode{
		s.Namespaces.PID, s.Namespaces.Mount, s.Namespaces.IPC, s.Namespaces.UTS,
		s.Namespaces.Network, s.Namespaces.Cgroup, s.Namespaces.User, s.Namespaces.Time,
	} {
		if m > NamespaceHost {
			bad("namespaces", m.String(), "no such mode")
		}
	}
	errs = append(errs, s.validateNetwork()...)
	errs = append(errs, s.Security.validate()...)
	if s.Process.Reaper && !s.Namespaces.Kinds().Has(namespaces.PID) {
		bad("process.reaper", "true", "it needs a new pid namespace")
	}
	if !s.Root.IsZero() {
		errs = append(errs, s.Root.validate()...)
		if !s.Namespaces.Kinds().Has(namespaces.Mount) {
			bad("namespaces.mount", s.Namespaces.Mount.String(), "a root needs a mount namespace")
		}
		if s.Root.idMapped() && s.Namespaces.User != NamespaceNew {
			bad("root.idMapped", "true", "needs a new user namespace")
		}
		if s.Root.Upper != "" && s.Root.Size != 0 && s.Namespaces.User != NamespaceNew {
			bad("root.size", strconv.FormatUint(s.Root.Size, 10), "of an upper directory it needs a new user namespace")
		}
	}
	errs = append(errs, s.validateMaps()...)
	if n := s.Namespaces; n.Time != NamespaceNew && (n.Monotonic != 0 || n.Boottime != 0) {
		bad("namespaces.time", n.Time.String(), "offsets of clocks need a new time namespace")
	}
	if s.Driver == adoptedName {
		if !s.Equal(Spec{ID: s.ID, Driver: s.Driver, Labels: s.Labels, Resources: s.Resources}) {
			bad("driver", s.Driver, "an adopted container has a process and namespaces already")
		}
		return errors.Join(errs...)
	}
	errs = append(errs, s.Process.validate()...)
	return errors.Join(errs...)
}

func (s Spec) validateNetwork() []error {
	mode := s.Network.Mode
	var errs []error
	if err := s.Network.Validate(); err != nil {
		errs = append(errs, err)
	}
	bad := func(reason string) {
		errs = append(errs, &InvalidError{Field: "network.mode", Value: clip(string(mode)), Reason: reason})
	}
	switch {
	case mode == "":
	case s.Namespaces.Network != NamespaceDefault:
		bad("namespaces.network says something else")
	}
	if !s.Network.DNS.IsZero() && !s.Namespaces.Kinds().Has(namespaces.Mount) {
		bad("dns needs a mount namespace for its files")
	}
	return errs
}

func (s Spec) validateMaps() []error {
	n := s.Namespaces
	if n.User != NamespaceNew {
		if len(n.UIDMap)+len(n.GIDMap) > 0 {
			return []error{&InvalidError{Field: "namespaces.uidMap", Reason: "a map needs a new user namespace"}}
		}
		return nil
	}
	if len(n.UIDMap) == 0 || len(n.GIDMap) == 0 {
		return []error{&InvalidError{Field: "namespaces.uidMap", Reason: "a new user namespace needs a map of users and one of groups"}}
	}
	return []error{n.UIDMap.Validate(), n.GIDMap.Validate()}
}

func (p Process) validate() []error {
	var errs []error
	bad := func(field, value, reason string) {
		errs = append(errs, &InvalidError{Field: field, Value: clip(value), Reason: reason})
	}
	if len(p.Args) == 0 || p.Args[0] == "" {
		bad("process.args", "", "no program")
	}
	for _, a := range p.Args {
		if strings.IndexByte(a, 0) >= 0 {
			bad("process.args", a, "NUL byte")
		}
	}
	for _, e := range p.Env {
		if strings.IndexByte(e, 0) >= 0 || strings.IndexByte(e, '=') < 1 {
			bad("process.env", e, `not "NAME=value"`)
		}
	}
	if p.Dir != "" && (!filepath.IsAbs(p.Dir) || strings.IndexByte(p.Dir, 0) >= 0) {
		bad("process.dir", p.Dir, "not an absolute path")
	}
	if p.User.UID == noID || p.User.GID == noID || slices.Contains(p.User.Groups, noID) {
		bad("process.user", strconv.Itoa(noID), "4294967295 is no id")
	}
	if _, err := capabilitySet(p.Capabilities); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, p.Scheduling.validate()...)
	if p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000) {
		bad("process.oomScoreAdj", strconv.Itoa(*p.OOMScoreAdj), "not -1000 to 1000")
	}
	seen := make(map[string]bool, len(p.Rlimits))
	for _, r := range p.Rlimits {
		switch _, known := launch.Rlimits[r.Name]; {
		case !known:
			bad("process.rlimits", r.Name, "no such resource limit")
		case seen[r.Name]:
			bad("process.rlimits", r.Name, "named twice")
		case r.Soft > r.Hard:
			bad("process.rlimits", r.Name, "the soft limit is above the hard one")
		}
		seen[r.Name] = true
	}
	return errs
}

// noID is (uid_t)-1, which system calls read as "leave as it is".
const noID = 1<<32 - 1

// Equal reports whether two specs ask for the same sandbox.
func (s Spec) Equal(t Spec) bool {
	return len(s.differs(t)) == 0
}

// differs names the fields in which two specs are not equal. nil and empty differ only
// for Capabilities, where they mean different things.
func (s Spec) differs(t Spec) (fields []string) {
	a, b := reflect.ValueOf(s.normal()), reflect.ValueOf(t.normal())
	for i := range a.NumField() {
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			fields = append(fields, name)
		}
	}
	return fields
}

// normal is the spec with empty slices and maps as nil, and resources compared
// by their own rules.
func (s Spec) normal() Spec {
	s = s.Clone()
	if len(s.Labels) == 0 {
		s.Labels = nil
	}
	for _, p := range []*[]string{&s.Process.Args, &s.Process.Env} {
		if len(*p) == 0 {
			*p = nil
		}
	}
	if s.Network.IsZero() {
		s.Network = netns.Spec{}
	}
	if len(s.Security.Files) == 0 {
		s.Security.Files = nil
	}
	if len(s.Root.Layers) == 0 {
		s.Root.Layers = nil
	}
	if len(s.Root.Volumes) == 0 {
		s.Root.Volumes = nil
	}
	if len(s.Process.Rlimits) == 0 {
		s.Process.Rlimits = nil
	}
	if len(s.Process.User.Groups) == 0 {
		s.Process.User.Groups = nil
	}
	return s
}

// Clone is a copy that shares nothing with s.
func (s Spec) Clone() Spec {
	s.Labels = maps.Clone(s.Labels)
	s.Resources = s.Resources.Clone()
	s.Network = s.Network.Clone()
	s.Root = s.Root.Clone()
	s.Security.Files = slices.Clone(s.Security.Files)
	if s.Logs != nil {
		c := *s.Logs
		s.Logs = &c
	}
	s.Process.Args = slices.Clone(s.Process.Args)
	s.Process.Env = slices.Clone(s.Process.Env)
	s.Process.Capabilities = slices.Clone(s.Process.Capabilities)
	s.Process.Rlimits = slices.Clone(s.Process.Rlimits)
	s.Process.OOMScoreAdj = copied(s.Process.OOMScoreAdj)
	s.Process.Scheduling.Nice = copied(s.Process.Scheduling.Nice)
	s.Process.User.Groups = slices.Clone(s.Process.User.Groups)
	s.Namespaces.UIDMap = slices.Clone(s.Namespaces.UIDMap)
	s.Namespaces.GIDMap = slices.Clone(s.Namespaces.GIDMap)
	return s
}

func copied(n *int) *int {
	if n == nil {
		return nil
	}
	c := *n
	return &c
}
