// SPDX-License-Identifier: Apache-2.0

package runtimespec_test

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/logs"
	"github.com/caisson-run/caisson/isolation/runtimespec"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

func ptr[T any](v T) *T { return &v }

// box is a small spec that runtimes have words for.
func box() isolation.Spec {
	return isolation.Spec{
		ID:       "box",
		Process:  isolation.Process{Args: []string{"/bin/true"}},
		Root:     isolation.Root{Path: "/srv/box"},
		Security: isolation.Security{Landlock: isolation.Off},
	}
}

func convert(t *testing.T, s isolation.Spec, cfg runtimespec.Config) (*specs.Spec, []runtimespec.Leftover) {
	t.Helper()
	spec, left, err := runtimespec.ToSpec(s, cfg)
	require.NoError(t, err)
	return spec, left
}

func TestToSpec(t *testing.T) {
	s := box()
	s.Process.User = isolation.User{UID: 1, GID: 2, Groups: []uint32{3}}
	s.Process.Dir, s.Process.OOMScoreAdj = "/tmp", ptr(10)
	s.Process.Rlimits = []isolation.Rlimit{{Name: "nofile", Soft: 10, Hard: 20}}
	s.Process.Scheduling = isolation.Scheduling{Policy: isolation.PolicyRR, Priority: 5, IOClass: isolation.IOIdle}
	s.Namespaces = isolation.Namespaces{
		User: isolation.NamespaceNew, IPC: isolation.NamespaceHost,
		UIDMap: namespaces.IDMaps{{Outside: 1000, Count: 10}}, GIDMap: namespaces.IDMaps{{Outside: 1000, Count: 10}},
	}
	s.Resources.Memory.Max = cgroups.Bytes(1 << 20)
	spec, left := convert(t, s, runtimespec.Config{CgroupsPath: "/a/box", NetworkNamespace: "/run/netns/box"})

	assert.Equal(t, specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{3}}, spec.Process.User)
	assert.Equal(t, "/tmp", spec.Process.Cwd)
	assert.Equal(t, 10, *spec.Process.OOMScoreAdj)
	assert.Equal(t, []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}}, spec.Process.Rlimits)
	assert.Equal(t, &specs.Scheduler{Policy: specs.SchedRR, Priority: 5}, spec.Process.Scheduler)
	assert.Equal(t, &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}, spec.Process.IOPriority)
	assert.True(t, spec.Process.NoNewPrivileges)
	assert.Equal(t, isolation.DefaultCapabilities(), spec.Process.Capabilities.Bounding)
	assert.Empty(t, spec.Process.Capabilities.Ambient)
	assert.Equal(t, "box", spec.Hostname)
	assert.Equal(t, "/a/box", spec.Linux.CgroupsPath)
	assert.Equal(t, []specs.LinuxNamespace{
		{Type: "pid"}, {Type: "mount"}, {Type: "uts"}, {Type: "network", Path: "/run/netns/box"}, {Type: "cgroup"}, {Type: "user"},
	}, spec.Linux.Namespaces)
	assert.Equal(t, []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}, spec.Linux.UIDMappings)
	assert.EqualValues(t, 1<<20, *spec.Linux.Resources.Memory.Limit)
	assert.Equal(t, []specs.LinuxDeviceCgroup{{Access: "rwm"}}, spec.Linux.Resources.Devices)

	var mounted []string
	for _, m := range spec.Mounts {
		mounted = append(mounted, m.Destination)
	}
	// No sysfs without a network namespace of the user namespace's own, and no
	// mqueue without an IPC namespace.
	assert.Equal(t, []string{"/proc", "/dev", "/dev/pts", "/dev/shm"}, mounted)
	require.Len(t, left, 1)
	assert.Contains(t, left[0].Reason, "/sys")
}

func TestToSpecVolumes(t *testing.T) {
	s := box()
	s.Root.Volumes = []isolation.Volume{
		{Target: "/a", Source: "/srv/a", ReadOnly: true},
		{Target: "/b", Source: "/srv/b", NoExec: true, Slave: true},
		{Target: "/c", Size: 1 << 20, Mode: 0o700, ReadOnly: true},
		{Target: "/d"},
	}
	spec, left := convert(t, s, runtimespec.Config{})
	assert.Empty(t, left)
	assert.Equal(t, []specs.Mount{
		{Destination: "/a", Type: "bind", Source: "/srv/a", Options: []string{"rbind", "rprivate", "nosuid", "rnosuid", "nodev", "rnodev", "ro", "rro"}},
		{Destination: "/b", Type: "bind", Source: "/srv/b", Options: []string{"rbind", "rslave", "nosuid", "rnosuid", "nodev", "rnodev", "noexec", "rnoexec"}},
		{Destination: "/c", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=700", "size=1048576", "nosuid", "nodev", "ro"}},
		{Destination: "/d", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777", "nosuid", "nodev"}},
	}, spec.Mounts[len(spec.Mounts)-4:])
	assert.Equal(t, "rslave", spec.Linux.RootfsPropagation)
}

// A program that the native driver would look up is looked up by a runtime too.
func TestToSpecLooksProgramsUp(t *testing.T) {
	s := box()
	s.Process.Args = []string{"true"}
	spec, _ := convert(t, s, runtimespec.Config{})
	assert.Equal(t, []string{"PATH=" + isolation.DefaultPath}, spec.Process.Env)
	s.Process.Env = []string{"PATH=/opt"}
	spec, _ = convert(t, s, runtimespec.Config{})
	assert.Equal(t, []string{"PATH=/opt"}, spec.Process.Env)
}

func TestToSpecFiltersSystemCalls(t *testing.T) {
	if runtime.GOOS != "linux" {
		_, left := convert(t, box(), runtimespec.Config{})
		assert.Equal(t, "security.seccomp", left[0].Field)
		return
	}
	allowed := func(s isolation.Spec) (names []string) {
		spec, _ := convert(t, s, runtimespec.Config{})
		if spec.Linux.Seccomp == nil {
			return nil
		}
		assert.Equal(t, specs.ActErrno, spec.Linux.Seccomp.DefaultAction)
		for _, c := range spec.Linux.Seccomp.Syscalls {
			names = append(names, c.Names...)
		}
		return names
	}
	s := box()
	assert.Contains(t, allowed(s), "read")
	assert.NotContains(t, allowed(s), "mount")
	s.Process.Capabilities = []string{"CAP_SYS_ADMIN"}
	assert.Contains(t, allowed(s), "mount")
	s.Security.Seccomp = isolation.Off
	assert.Empty(t, allowed(s))
}

func TestToSpecRefuses(t *testing.T) {
	_, _, err := runtimespec.ToSpec(isolation.Spec{ID: "a"}, runtimespec.Config{})
	require.ErrorIs(t, err, isolation.ErrInvalid)
}

// changes are values for every field of a spec. A field that is named here is a
// leftover; any other changes the configuration.
var changes = map[string]struct {
	set  func(*isolation.Spec)
	left string
}{
	"driver":    {func(s *isolation.Spec) { s.Driver = "x" }, "driver"},
	"class":     {func(s *isolation.Spec) { s.Class = elastic.BestEffort }, "class"},
	"labels":    {func(s *isolation.Spec) { s.Labels = map[string]string{"a": "b"} }, ""},
	"id":        {func(s *isolation.Spec) { s.ID = "other" }, ""},
	"resources": {func(s *isolation.Spec) { s.Resources.PIDs.Max = cgroups.Count(5) }, ""},
	"network":   {func(s *isolation.Spec) { s.Network = netns.Spec{Mode: netns.ModeNew} }, ""},
	"logs":      {func(s *isolation.Spec) { s.Logs = &logs.Config{} }, "logs"},
	"hostname":  {func(s *isolation.Spec) { s.Hostname = "other" }, ""},
	"controllers": {func(s *isolation.Spec) {
		s.Controllers = cgroups.ControllersOf(cgroups.ControllerCPU)
	}, "controllers"},

	"process.args":              {func(s *isolation.Spec) { s.Process.Args = []string{"/bin/false"} }, ""},
	"process.env":               {func(s *isolation.Spec) { s.Process.Env = []string{"A=b"} }, ""},
	"process.dir":               {func(s *isolation.Spec) { s.Process.Dir = "/tmp" }, ""},
	"process.user.uid":          {func(s *isolation.Spec) { s.Process.User.UID = 1 }, ""},
	"process.user.gid":          {func(s *isolation.Spec) { s.Process.User.GID = 1 }, ""},
	"process.user.groups":       {func(s *isolation.Spec) { s.Process.User.Groups = []uint32{1} }, ""},
	"process.capabilities":      {func(s *isolation.Spec) { s.Process.Capabilities = []string{} }, ""},
	"process.newPrivileges":     {func(s *isolation.Spec) { s.Process.NewPrivileges = true }, ""},
	"process.reaper":            {func(s *isolation.Spec) { s.Process.Reaper = true }, "process.reaper"},
	"process.terminal":          {func(s *isolation.Spec) { s.Process.Terminal = true }, ""},
	"process.oomScoreAdj":       {func(s *isolation.Spec) { s.Process.OOMScoreAdj = ptr(0) }, ""},
	"process.rlimits":           {func(s *isolation.Spec) { s.Process.Rlimits = []isolation.Rlimit{{Name: "core"}} }, ""},
	"process.scheduling.policy": {func(s *isolation.Spec) { s.Process.Scheduling.Policy = isolation.PolicyIdle }, ""},
	"process.scheduling.nice":   {func(s *isolation.Spec) { s.Process.Scheduling.Nice = ptr(5) }, "process.scheduling.nice"},
	"process.scheduling.priority": {func(s *isolation.Spec) {
		s.Process.Scheduling = isolation.Scheduling{Policy: isolation.PolicyRR, Priority: 5}
	}, ""},
	"process.scheduling.ioClass": {func(s *isolation.Spec) { s.Process.Scheduling.IOClass = isolation.IOIdle }, ""},
	"process.scheduling.ioLevel": {func(s *isolation.Spec) {
		s.Process.Scheduling = isolation.Scheduling{IOClass: isolation.IORealtime, IOLevel: 3}
	}, ""},
	"process.scheduling.core": {func(s *isolation.Spec) { s.Process.Scheduling.Core = true }, "process.scheduling.core"},
	"process.scheduling.cpus": {func(s *isolation.Spec) {
		s.Process.Scheduling.CPUs, _ = cgroups.ParseSet("0")
	}, "process.scheduling.cpus"},

	"namespaces.pid":     {func(s *isolation.Spec) { s.Namespaces.PID = isolation.NamespaceHost }, ""},
	"namespaces.mount":   {func(s *isolation.Spec) { s.Namespaces.Mount = isolation.NamespaceNew }, "same"},
	"namespaces.ipc":     {func(s *isolation.Spec) { s.Namespaces.IPC = isolation.NamespaceHost }, ""},
	"namespaces.uts":     {func(s *isolation.Spec) { s.Namespaces.UTS = isolation.NamespaceHost }, ""},
	"namespaces.network": {func(s *isolation.Spec) { s.Namespaces.Network = isolation.NamespaceNew }, ""},
	"namespaces.cgroup":  {func(s *isolation.Spec) { s.Namespaces.Cgroup = isolation.NamespaceHost }, ""},
	"namespaces.time":    {func(s *isolation.Spec) { s.Namespaces.Time = isolation.NamespaceNew }, ""},
	"namespaces.monotonic": {func(s *isolation.Spec) {
		s.Namespaces.Time, s.Namespaces.Monotonic = isolation.NamespaceNew, -1500*time.Millisecond
	}, ""},
	"namespaces.boottime": {func(s *isolation.Spec) {
		s.Namespaces.Time, s.Namespaces.Boottime = isolation.NamespaceNew, time.Hour+1
	}, ""},
	"namespaces.user":   {mapped, ""},
	"namespaces.uidMap": {mapped, ""},
	"namespaces.gidMap": {mapped, ""},

	"root.path":   {func(s *isolation.Spec) { s.Root.Path = "/srv/other" }, ""},
	"root.layers": {func(s *isolation.Spec) { s.Root = isolation.Root{Layers: []string{"/srv/a"}} }, "root.layers"},
	"root.upper":  {func(s *isolation.Spec) { s.Root = isolation.Root{Layers: []string{"/srv/a"}, Upper: "/srv/u"} }, "root.layers"},
	"root.size":   {func(s *isolation.Spec) { s.Root = isolation.Root{Layers: []string{"/srv/a"}, Size: 1} }, "root.layers"},
	"root.idMapped": {func(s *isolation.Spec) {
		mapped(s)
		s.Root.IDMapped = true
	}, "root.idMapped"},
	"root.volumes.idMapped": {func(s *isolation.Spec) {
		mapped(s)
		s.Root.Volumes = []isolation.Volume{{Target: "/a", Source: "/srv", IDMapped: true}}
	}, "root.volumes.idMapped"},
	"root.readOnly":         {func(s *isolation.Spec) { s.Root.ReadOnly = true }, ""},
	"root.bare":             {func(s *isolation.Spec) { s.Root.Bare = true }, "root.bare"},
	"root.masked":           {func(s *isolation.Spec) { s.Root.Masked = []string{} }, ""},
	"root.guarded":          {func(s *isolation.Spec) { s.Root.Guarded = []string{} }, ""},
	"root.volumes.target":   {volume(isolation.Volume{Target: "/b"}), ""},
	"root.volumes.source":   {volume(isolation.Volume{Target: "/a", Source: "/srv"}), ""},
	"root.volumes.readOnly": {volume(isolation.Volume{Target: "/a", ReadOnly: true}), ""},
	"root.volumes.noExec":   {volume(isolation.Volume{Target: "/a", NoExec: true}), ""},
	"root.volumes.slave":    {volume(isolation.Volume{Target: "/a", Source: "/srv", Slave: true}), ""},
	"root.volumes.size":     {volume(isolation.Volume{Target: "/a", Size: 1}), ""},
	"root.volumes.mode":     {volume(isolation.Volume{Target: "/a", Mode: 0o700}), ""},

	"subgroups": {func(s *isolation.Spec) { s.Subgroups = true }, "subgroups"},

	"security.seccomp":      {func(s *isolation.Spec) { s.Security.Seccomp = isolation.Off }, ""},
	"security.keyring":      {func(s *isolation.Spec) { s.Security.Keyring = isolation.Off }, "security.keyring"},
	"security.files.path":   {files(isolation.FileRule{Path: "/", Access: isolation.FileRead}), "security.files"},
	"security.files.access": {files(isolation.FileRule{Path: "/", Access: isolation.FileRead}), "security.files"},
	"security.landlock":     {func(s *isolation.Spec) { s.Security.Landlock = isolation.On }, "security.landlock"},
}

func mapped(s *isolation.Spec) {
	s.Namespaces.User = isolation.NamespaceNew
	s.Namespaces.UIDMap = namespaces.IDMaps{{Outside: 1000, Count: 10}}
	s.Namespaces.GIDMap = s.Namespaces.UIDMap
}

func volume(v isolation.Volume) func(*isolation.Spec) {
	return func(s *isolation.Spec) { s.Root.Volumes = []isolation.Volume{v} }
}

func files(r isolation.FileRule) func(*isolation.Spec) {
	return func(s *isolation.Spec) {
		s.Security.Files, s.Security.Landlock = []isolation.FileRule{r}, isolation.Default
		s.Namespaces.Network = isolation.NamespaceNew // or Landlock has something else to do
	}
}

// fields are the JSON names of what is in a spec, down to where another package
// goes on.
func fields(t reflect.Type, prefix string) (list []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner.PkgPath() == t.PkgPath() && name != "rlimits" {
			list = append(list, fields(inner, prefix+name+".")...)
		} else {
			list = append(list, prefix+name)
		}
	}
	return list
}

// Nothing is dropped in silence: what a field says is in the configuration or in
// the list.
func TestToSpecTellsOfEveryField(t *testing.T) {
	all := fields(reflect.TypeFor[isolation.Spec](), "")
	assert.Len(t, changes, len(all))
	plain, left := convert(t, box(), runtimespec.Config{})
	if runtime.GOOS == "linux" {
		require.Empty(t, left)
	}
	for _, field := range all {
		t.Run(field, func(t *testing.T) {
			c, known := changes[field]
			require.True(t, known, "a field that nobody thought of")
			s := box()
			c.set(&s)
			spec, left := convert(t, s, runtimespec.Config{})
			switch c.left {
			case "same": // it says what is the default
				assert.Equal(t, plain, spec)
			case "":
				assert.NotEqual(t, plain, spec)
			default:
				assert.Contains(t, left, leftOf(left, c.left))
			}
		})
	}
}

// leftOf is the leftover of a field, or one that is in no list.
func leftOf(list []runtimespec.Leftover, field string) runtimespec.Leftover {
	for _, l := range list {
		if l.Field == field {
			return l
		}
	}
	return runtimespec.Leftover{Field: field, Reason: "it was not named"}
}
