// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	limits "github.com/caisson-run/caisson/cgroups/runtimespec"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// FromSpec converts a runtime's configuration to the spec of a sandbox with this
// id. left is what the configuration names besides. Paths in it have to be
// absolute; [ReadBundle] makes them so.
//
// Nothing of the machine is looked at, and whoever may write a configuration may
// name any directory of it: what is not trusted to do that is to be looked at
// before it is run.
//
// It returns an error that matches [isolation.ErrInvalid] for what makes no sense,
// and nothing else then.
func FromSpec(id string, spec *specs.Spec) (s isolation.Spec, left []Leftover, err error) {
	r := &reader{spec: spec, linux: cmp.Or(spec.Linux, &specs.Linux{}), s: isolation.Spec{ID: id}}
	if !strings.HasPrefix(spec.Version, "1.") {
		r.bad("ociVersion", spec.Version, "not a version 1 of the specification")
	}
	r.namespaces()
	r.process()
	r.root()
	r.seccomp()
	r.resources()
	r.labels()
	r.rest()
	if len(r.errs) == 0 {
		r.errs = append(r.errs, r.s.Validate())
	}
	if err := errors.Join(r.errs...); err != nil {
		return isolation.Spec{}, nil, fmt.Errorf("configuration: %w", err)
	}
	return r.s, r.left, nil
}

// reader is a conversion under way.
type reader struct {
	spec  *specs.Spec
	linux *specs.Linux
	s     isolation.Spec
	left  []Leftover
	errs  []error
}

func (r *reader) bad(field string, value any, reason string) {
	r.errs = append(r.errs, &isolation.InvalidError{Field: field, Value: clip(fmt.Sprint(value)), Reason: reason})
}

func (r *reader) leave(field string, value any, reason string) {
	r.left = append(r.left, Leftover{Field: field, Value: clip(fmt.Sprint(value)), Reason: reason})
}

// clip bounds what a message repeats of a value from outside.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// given is leave for a string that is not empty.
func (r *reader) given(field, value, reason string) {
	if value != "" {
		r.leave(field, value, reason)
	}
}

// Reasons to leave a value.
const (
	otherSystem = "of another operating system"
	noLSM       = "labels and profiles of a security module are not set"
)

// rest names what a sandbox does not have at all.
func (r *reader) rest() {
	s, l := r.spec, r.linux
	r.given("domainname", s.Domainname, "the NIS domain name is not set")
	if h := s.Hooks; h != nil {
		for _, k := range []struct {
			name string
			list []specs.Hook
		}{
			//lint:ignore SA1019 it is deprecated, and must not be dropped in silence
			{"prestart", h.Prestart}, {"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer},
			{"startContainer", h.StartContainer}, {"poststart", h.Poststart}, {"poststop", h.Poststop},
		} {
			for i, hook := range k.list {
				r.leave(fmt.Sprintf("hooks.%s[%d]", k.name, i), hook.Path, "hooks are not run")
			}
		}
	}
	for _, o := range []struct {
		name string
		is   bool
	}{{"solaris", s.Solaris != nil}, {"windows", s.Windows != nil}, {"vm", s.VM != nil}, {"zos", s.ZOS != nil}, {"freebsd", s.FreeBSD != nil}} {
		if o.is {
			r.leave(o.name, "", otherSystem)
		}
	}
	for i, d := range l.Devices {
		r.leave(fmt.Sprintf("linux.devices[%d]", i), d.Path, "only the usual devices are there")
	}
	for _, name := range sortedKeys(l.NetDevices) {
		r.leave("linux.netDevices."+name, l.NetDevices[name].Name, "network.interfaces moves links")
	}
	r.given("linux.mountLabel", l.MountLabel, noLSM)
	r.given("linux.cgroupsPath", l.CgroupsPath, "the host has a group for each sandbox")
	if l.IntelRdt != nil {
		r.leave("linux.intelRdt", cmp.Or(l.IntelRdt.ClosID, l.IntelRdt.L3CacheSchema, l.IntelRdt.MemBwSchema), "resctrl is not used")
	}
	if l.MemoryPolicy != nil {
		r.leave("linux.memoryPolicy", l.MemoryPolicy.Mode, "only resources.cpuset.mems places memory")
	}
	if l.Personality != nil {
		r.leave("linux.personality", l.Personality.Domain, "the personality is the caller's")
	}
	for _, clock := range sortedKeys(l.TimeOffsets) {
		r.timeOffset(clock, l.TimeOffsets[clock])
	}
}

// timeOffset is how far a clock of the time namespace is ahead.
func (r *reader) timeOffset(clock string, o specs.LinuxTimeOffset) {
	field, n := "linux.timeOffsets."+clock, &r.s.Namespaces
	d := time.Duration(o.Secs)*time.Second + time.Duration(o.Nanosecs)
	to := map[string]*time.Duration{"monotonic": &n.Monotonic, "boottime": &n.Boottime}[clock]
	const most = math.MaxInt64 / int64(time.Second)
	switch {
	case to == nil:
		r.bad(field, o.Secs, "no clock of a time namespace")
	case n.Time != isolation.NamespaceNew:
		r.leave(field, o.Secs, "there is no new time namespace")
	case o.Secs >= most || o.Secs <= -most || int64(o.Nanosecs) >= int64(time.Second):
		r.bad(field, o.Secs, "more than 292 years, or nanoseconds that are seconds")
	default:
		*to = d
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// labels are annotations that can be labels.
func (r *reader) labels() {
	for _, k := range sortedKeys(r.spec.Annotations) {
		v := r.spec.Annotations[k]
		probe := isolation.Spec{ID: "x", Process: isolation.Process{Args: []string{"x"}}, Labels: map[string]string{k: v}}
		if err := probe.Validate(); err != nil {
			r.leave("annotations."+clip(k), v, "it cannot be a label: "+err.Error())
			continue
		}
		const most = 64 // see isolation.Spec.Labels
		if len(r.s.Labels) == most {
			r.leave("annotations."+k, v, "there are 64 labels already")
			continue
		}
		if r.s.Labels == nil {
			r.s.Labels = make(map[string]string)
		}
		r.s.Labels[k] = v
	}
}

func (r *reader) namespaces() {
	n := &r.s.Namespaces
	// What is not named is the host's.
	n.PID, n.Mount, n.IPC, n.UTS, n.Cgroup = host, host, host, host, host
	seen := make(map[specs.LinuxNamespaceType]bool)
	for i, ns := range r.linux.Namespaces {
		field := fmt.Sprintf("linux.namespaces[%d]", i)
		if seen[ns.Type] {
			r.bad(field, ns.Type, "named twice")
		}
		seen[ns.Type] = true
		mode := isolation.NamespaceDefault
		switch ns.Type {
		case specs.PIDNamespace:
			n.PID = mode
		case specs.MountNamespace:
			n.Mount = mode
		case specs.IPCNamespace:
			n.IPC = mode
		case specs.UTSNamespace:
			n.UTS = mode
		case specs.CgroupNamespace:
			n.Cgroup = mode
		case specs.NetworkNamespace:
			r.network(field, ns.Path)
			continue
		case specs.UserNamespace:
			if ns.Path == "" {
				n.User = isolation.NamespaceNew
			}
		case specs.TimeNamespace:
			n.Time = isolation.NamespaceNew
		default:
			r.bad(field, ns.Type, "no kind of namespace")
			continue
		}
		r.given(field+".path", ns.Path, "only a network namespace can be joined")
	}
	maps := func(field string, list []specs.LinuxIDMapping) (out namespaces.IDMaps) {
		if len(list) > 0 && n.User != isolation.NamespaceNew {
			r.leave(field, fmt.Sprint(list), "there is no new user namespace")
			return nil
		}
		for _, m := range list {
			out = append(out, namespaces.IDMap{Inside: m.ContainerID, Outside: m.HostID, Count: m.Size})
		}
		return out
	}
	n.UIDMap, n.GIDMap = maps("linux.uidMappings", r.linux.UIDMappings), maps("linux.gidMappings", r.linux.GIDMappings)
	r.sysctls()
	r.hostname()
	if n.Network == isolation.NamespaceDefault && r.s.Network.IsZero() {
		r.s.Security.Landlock = isolation.Off // runtimes let others' abstract sockets be reached there
	}
}

const host = isolation.NamespaceHost

func (r *reader) network(field, file string) {
	switch {
	case file == "":
		r.s.Namespaces.Network = isolation.NamespaceNew
	case !path.IsAbs(file):
		r.bad(field+".path", file, "not an absolute path")
	default:
		r.s.Network = netns.Spec{Mode: netns.ModeJoin, Join: file}
	}
}

// sysctls are those of a new network namespace.
func (r *reader) sysctls() {
	for _, k := range sortedKeys(r.linux.Sysctl) {
		v, n := r.linux.Sysctl[k], r.s.Network
		if r.s.Namespaces.Network == isolation.NamespaceNew {
			n = netns.Spec{Mode: netns.ModeNew}
		}
		net := strings.HasPrefix(k, "net.") || strings.HasPrefix(k, "net/")
		if n.Mode != netns.ModeNew || !net {
			r.leave("linux.sysctl."+clip(k), v, "only those of a new network namespace are written")
			continue
		}
		r.s.Namespaces.Network = isolation.NamespaceDefault
		if r.s.Network = n; n.Sysctls == nil {
			r.s.Network.Sysctls = make(map[string]string)
		}
		r.s.Network.Sysctls[k] = v
	}
}

func (r *reader) hostname() {
	switch name := r.spec.Hostname; {
	case r.s.Namespaces.UTS == host:
		r.given("hostname", name, "there is no new UTS namespace")
	case name != r.s.ID:
		r.s.Hostname = name
	}
}

func (r *reader) resources() {
	res := r.linux.Resources
	if res == nil {
		return
	}
	// That only the usual devices can be used is how a sandbox with a root is.
	if d := res.Devices; len(d) == 1 && !d[0].Allow && (d[0].Type == "" || d[0].Type == "a") && d[0].Major == nil && d[0].Minor == nil {
		c := *res
		c.Devices = nil
		res = &c
	}
	got, left, err := limits.FromSpec(res)
	if err != nil {
		r.errs = append(r.errs, err)
		return
	}
	for _, l := range left {
		r.leave("linux.resources."+l.Field, l.Value, l.Reason)
	}
	r.s.Resources = got
}

// seccomp takes the native driver's profile for what it is. Another one cannot be
// told from it by degrees.
func (r *reader) seccomp() {
	p := r.linux.Seccomp
	if p == nil {
		r.s.Security.Seccomp = isolation.Off
		return
	}
	r.given("linux.seccomp.listenerPath", p.ListenerPath, "nobody is notified")
	r.given("linux.seccomp.listenerMetadata", p.ListenerMetadata, "nobody is notified")
	for _, f := range p.Flags {
		r.leave("linux.seccomp.flags", f, "the filter has none")
	}
	c := *p
	c.ListenerPath, c.ListenerMetadata, c.Flags = "", "", nil
	if own := profile(r.bounding()); own == nil || !equalJSON(own, &c) {
		r.leave("linux.seccomp", fmt.Sprintf("%s, %d rules", p.DefaultAction, len(p.Syscalls)), "the profile is the library's own")
	}
}
