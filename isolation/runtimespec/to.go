// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	limits "github.com/caisson-run/caisson/cgroups/runtimespec"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/seccomp"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// Leftover is a value that has no equivalent on the other side. Its Field is in
// the words of where it stands, as in the JSON of either: "process.reaper",
// "linux.intelRdt".
type Leftover = limits.Leftover

// Config is what a runtime's configuration says besides an [isolation.Spec].
type Config struct {
	// Rootfs is the directory that Root.Layers are mounted on, by the caller:
	// runtimes mount no root. Empty leaves a spec with layers without a root,
	// and says so.
	Rootfs string

	// CgroupsPath is the container's group, as in linux.cgroupsPath.
	CgroupsPath string

	// NetworkNamespace is a network namespace to join, by its file: what is made
	// of Spec.Network by whoever sets it up. Empty leaves a network with more than
	// a loopback device to nobody, and says so.
	NetworkNamespace string

	// Capabilities are what [isolation.AllCapabilities] means, the caller's; nil
	// is every one that there is.
	Capabilities []string
}

// version is the first of the specification that has all that ToSpec writes but
// scheduling, which is newer.
const (
	version          = "1.0.2"
	versionScheduler = "1.1.0"
)

// ToSpec converts s to a runtime's configuration. left is what s names besides.
//
// It returns the errors of [isolation.Spec.Validate].
func ToSpec(s isolation.Spec, cfg Config) (spec *specs.Spec, left []Leftover, err error) {
	if err := s.Validate(); err != nil {
		return nil, nil, fmt.Errorf("spec: %w", err)
	}
	w := &writer{s: &s, cfg: cfg, kinds: s.Namespaces.Kinds(), spec: &specs.Spec{
		Version: version, Annotations: maps.Clone(s.Labels), Linux: &specs.Linux{CgroupsPath: cfg.CgroupsPath},
	}}
	w.network() // first: it decides about a namespace
	w.namespaces()
	w.process()
	w.root()
	w.seccomp()
	if err := w.resources(); err != nil {
		return nil, nil, err
	}
	w.rest()
	return w.spec, w.left, nil
}

// writer is a conversion under way.
type writer struct {
	s     *isolation.Spec
	cfg   Config
	kinds namespaces.Kinds // that are new
	joins bool             // the network namespace of cfg
	spec  *specs.Spec
	left  []Leftover
}

func (w *writer) leave(field string, value any, reason string) {
	w.left = append(w.left, Leftover{Field: field, Value: fmt.Sprint(value), Reason: reason})
}

// rest names what no runtime's configuration has.
func (w *writer) rest() {
	s := w.s
	if s.Driver != "" {
		w.leave("driver", s.Driver, "a configuration does not name who runs it")
	}
	if s.Class != elastic.Standard {
		w.leave("class", s.Class, "only Resources and oomScoreAdj rank a container")
	}
	if s.Logs != nil {
		w.leave("logs", "", "output goes where the runtime's own does")
	}
	if s.Controllers != 0 {
		w.leave("controllers", s.Controllers, "a runtime puts its group under all of the machine's")
	}
	if s.Subgroups {
		w.leave("subgroups", true, "a runtime puts its process into the one group")
	}
	if s.Security.Keyring == isolation.Off || s.Security.Keyring == isolation.Default && s.Root.IsZero() {
		w.leave("security.keyring", s.Security.Keyring, "a runtime makes a keyring unless its command line says no")
	}
	if len(s.Security.Files) > 0 {
		w.leave("security.files", len(s.Security.Files), "runtimes do not use Landlock")
	}
	shared := !w.kinds.Has(namespaces.Network) && !w.joins
	if l := s.Security.Landlock; l == isolation.On || l == isolation.Default && !s.Root.IsZero() && shared {
		w.leave("security.landlock", l, "runtimes do not use it")
	}
}

// network decides which network namespace the container is in.
func (w *writer) network() {
	n, given := w.s.Network, w.cfg.NetworkNamespace
	loopback := n.IsZero() || n.Mode == netns.ModeNew && len(n.Interfaces) == 0 && len(n.Ports) == 0 && !n.Isolated && n.DNS.IsZero()
	switch {
	case given != "" && n.Mode != netns.ModeHost:
		w.joins = true
	case n.Mode == netns.ModeJoin && path.IsAbs(n.Join):
		w.joins, w.cfg.NetworkNamespace = true, n.Join
	case n.Mode == netns.ModeJoin:
		w.leave("network.join", n.Join, "somebody has to tell where that namespace is")
	case n.Mode == netns.ModeNew:
		w.kinds = w.kinds.With(namespaces.KindsOf(namespaces.Network))
		w.spec.Linux.Sysctl = maps.Clone(n.Sysctls)
		if !loopback {
			w.leave("network", n.Mode, "somebody has to set up its interfaces")
		}
	case !n.IsZero() && !n.DNS.IsZero():
		w.leave("network.dns", "", "somebody has to write its files")
	}
}

// kindNames are the specification's.
var kindNames = []struct {
	kind namespaces.Kind
	name specs.LinuxNamespaceType
}{
	{namespaces.PID, specs.PIDNamespace}, {namespaces.Mount, specs.MountNamespace}, {namespaces.IPC, specs.IPCNamespace},
	{namespaces.UTS, specs.UTSNamespace}, {namespaces.Network, specs.NetworkNamespace},
	{namespaces.Cgroup, specs.CgroupNamespace}, {namespaces.User, specs.UserNamespace}, {namespaces.Time, specs.TimeNamespace},
}

func (w *writer) namespaces() {
	l := w.spec.Linux
	for _, k := range kindNames {
		switch {
		case k.kind == namespaces.Network && w.joins:
			l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: k.name, Path: w.cfg.NetworkNamespace})
		case w.kinds.Has(k.kind):
			l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: k.name})
		}
	}
	for clock, d := range map[string]time.Duration{"monotonic": w.s.Namespaces.Monotonic, "boottime": w.s.Namespaces.Boottime} {
		if d == 0 {
			continue
		}
		if l.TimeOffsets == nil {
			l.TimeOffsets = make(map[string]specs.LinuxTimeOffset)
		}
		past := (d%time.Second + time.Second) % time.Second // never negative
		l.TimeOffsets[clock] = specs.LinuxTimeOffset{Secs: int64((d - past) / time.Second), Nanosecs: uint32(past)}
	}
	l.UIDMappings, l.GIDMappings = idMappings(w.s.Namespaces.UIDMap), idMappings(w.s.Namespaces.GIDMap)
	if w.kinds.Has(namespaces.UTS) {
		w.spec.Hostname = cmp.Or(w.s.Hostname, w.s.ID)
	}
}

func idMappings(maps namespaces.IDMaps) (list []specs.LinuxIDMapping) {
	for _, m := range maps {
		list = append(list, specs.LinuxIDMapping{ContainerID: m.Inside, HostID: m.Outside, Size: m.Count})
	}
	return list
}

func (w *writer) process() {
	p := &w.s.Process
	out := &specs.Process{
		Terminal: p.Terminal, Args: slices.Clone(p.Args), Env: slices.Clone(p.Env), Cwd: cmp.Or(p.Dir, "/"),
		User:            specs.User{UID: p.User.UID, GID: p.User.GID, AdditionalGids: slices.Clone(p.User.Groups)},
		NoNewPrivileges: !p.NewPrivileges,
	}
	hasPath := slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") })
	if !strings.Contains(p.Args[0], "/") && !hasPath {
		out.Env = append(out.Env, "PATH="+isolation.DefaultPath)
	}
	caps := w.capabilities()
	// Not inheritable and not ambient: the native driver gives neither.
	out.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	for _, r := range p.Rlimits {
		out.Rlimits = append(out.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(r.Name), Soft: r.Soft, Hard: r.Hard})
	}
	if out.OOMScoreAdj = copied(p.OOMScoreAdj); out.OOMScoreAdj == nil {
		if adj := w.s.Class.OOMScoreAdj(); adj != 0 {
			out.OOMScoreAdj = &adj
		}
	}
	if p.Reaper {
		w.leave("process.reaper", true, "a runtime has no first process of its own")
	}
	w.spec.Process = out
	w.scheduling()
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// capabilities are those that the process keeps.
func (w *writer) capabilities() []string {
	switch names := w.s.Process.Capabilities; {
	case names == nil:
		return isolation.DefaultCapabilities()
	case len(names) != 1 || names[0] != isolation.AllCapabilities:
		return slices.Clone(names)
	case w.cfg.Capabilities != nil:
		return slices.Clone(w.cfg.Capabilities)
	}
	return isolation.KnownCapabilities()
}

// Scheduling in the specification's words.
var (
	policies = map[isolation.SchedulingPolicy]specs.LinuxSchedulerPolicy{
		isolation.PolicyOther: specs.SchedOther, isolation.PolicyBatch: specs.SchedBatch, isolation.PolicyIdle: specs.SchedIdle,
		isolation.PolicyFIFO: specs.SchedFIFO, isolation.PolicyRR: specs.SchedRR,
	}
	ioClasses = map[isolation.IOClass]specs.IOPriorityClass{
		isolation.IORealtime: specs.IOPRIO_CLASS_RT, isolation.IOBestEffort: specs.IOPRIO_CLASS_BE, isolation.IOIdle: specs.IOPRIO_CLASS_IDLE,
	}
)

func (w *writer) scheduling() {
	s, out := &w.s.Process.Scheduling, w.spec.Process
	switch {
	case s.Policy != "":
		out.Scheduler = &specs.Scheduler{Policy: policies[s.Policy], Priority: int32(s.Priority)}
		switch {
		case s.Nice != nil:
			out.Scheduler.Nice = int32(*s.Nice)
		case s.Policy == isolation.PolicyOther || s.Policy == isolation.PolicyBatch:
			w.leave("process.scheduling.nice", "", "with a policy a runtime sets it to 0")
		}
	case s.Nice != nil:
		w.leave("process.scheduling.nice", *s.Nice, "a runtime sets it with a policy only")
	}
	if s.IOClass != "" {
		out.IOPriority = &specs.LinuxIOPriority{Class: ioClasses[s.IOClass], Priority: s.IOLevel}
	}
	if out.Scheduler != nil || out.IOPriority != nil {
		w.spec.Version = versionScheduler
	}
	if !s.CPUs.IsZero() {
		w.leave("process.scheduling.cpus", s.CPUs, "a runtime pins only what is executed later; resources.cpuset.cpus pins all")
	}
	if s.Core {
		w.leave("process.scheduling.core", true, "runtimes make no core scheduling cookies")
	}
}

// seccomp names every system call that the native driver's filter allows.
func (w *writer) seccomp() {
	on := w.s.Security.Seccomp
	if on == isolation.Off || on == isolation.Default && w.s.Root.IsZero() {
		return
	}
	w.spec.Linux.Seccomp = profile(w.spec.Process.Capabilities.Bounding)
	if w.spec.Linux.Seccomp == nil {
		w.leave("security.seccomp", on, "the profile is of Linux on amd64 and arm64")
	}
}

// profile is the native driver's for a process that keeps these capabilities;
// nil where there is none.
func profile(capabilities []string) *specs.LinuxSeccomp {
	var set uint64
	for i, name := range isolation.KnownCapabilities() {
		if slices.Contains(capabilities, name) {
			set |= 1 << i
		}
	}
	rules := seccomp.Rules(set)
	if rules == nil {
		return nil
	}
	eperm := uint(1)
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &eperm}
	for _, r := range rules {
		call := specs.LinuxSyscall{Names: r.Names, Action: specs.ActAllow}
		if r.Errno != 0 {
			errno := uint(r.Errno)
			call.Action, call.ErrnoRet = specs.ActErrno, &errno
		}
		if r.Arg != nil {
			call.Args = []specs.LinuxSeccompArg{{Value: r.Arg.Mask, ValueTwo: r.Arg.Value, Op: specs.OpMaskedEqual}}
		}
		p.Syscalls = append(p.Syscalls, call)
	}
	return p
}

// resources are the limits, and that only the usual devices can be used.
func (w *writer) resources() error {
	r, left, err := limits.ToSpec(w.s.Resources)
	if err != nil {
		return err
	}
	for _, l := range left {
		l.Field = "resources." + l.Field
		w.left = append(w.left, l)
	}
	switch rules, listed := w.s.Resources.Devices.Rules(); {
	case w.s.Resources.Devices.IsZero() && !w.s.Root.IsZero():
		r.Devices = noDevices()
	case listed && len(rules) == 0:
		w.leave("resources.devices", "none", "a runtime adds the usual devices")
	}
	w.spec.Linux.Resources = r
	return nil
}

// noDevices is the rule to which runtimes add those for the usual devices.
func noDevices() []specs.LinuxDeviceCgroup {
	return []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
}
