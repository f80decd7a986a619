// SPDX-License-Identifier: Apache-2.0

package isolation

import "github.com/caisson-run/caisson/internal/compact"

// The lines that are written while a sandbox is made and started marshal
// themselves, under the names of the fields' tags; see package compact.

func (e entry) MarshalJSON() ([]byte, error) {
	size := 192
	if e.Spec != nil {
		size = 512
	}
	o := compact.NewObject(size)
	if e.Version != 0 {
		o.Number("v", uint64(e.Version))
	}
	if e.Boot != "" {
		o.Text("boot", e.Boot)
	}
	if e.Spec != nil {
		o.Object("spec", e.Spec.members)
	}
	o.Time("at", e.At)
	if e.Phase != "" {
		o.Text("phase", string(e.Phase))
	}
	if e.Update != nil {
		o.Any("update", e.Update)
	}
	if e.Was != nil {
		o.Any("was", e.Was)
	}
	if e.Updated != nil {
		o.Any("updated", e.Updated)
	}
	if e.Layers != nil {
		o.Any("layers", e.Layers)
	}
	if e.Reshape != nil {
		o.Any("reshape", e.Reshape)
	}
	if e.Network != nil {
		o.Any("network", e.Network)
	}
	if e.Narrowed != nil {
		o.Any("narrowed", e.Narrowed)
	}
	if e.Act != "" {
		o.Text("act", string(e.Act))
	}
	if len(e.Driver) > 0 {
		o.Raw("driver", e.Driver)
	}
	return o.Bytes()
}

func (s *Spec) members(o *compact.Object) {
	o.Text("id", s.ID)
	if s.Driver != "" {
		o.Text("driver", s.Driver)
	}
	if s.Class != 0 {
		o.Text("class", s.Class.String())
	}
	if len(s.Labels) > 0 {
		o.Any("labels", s.Labels)
	}
	o.Object("process", s.Process.members)
	if !s.Resources.IsZero() {
		o.Any("resources", s.Resources)
	}
	if n := &s.Namespaces; *n.modes() != [8]NamespaceMode{} || n.UIDMap != nil || n.GIDMap != nil ||
		n.Monotonic != 0 || n.Boottime != 0 {
		o.Object("namespaces", n.members)
	}
	if !s.Network.IsZero() {
		o.Any("network", s.Network)
	}
	if !s.Root.IsZero() {
		o.Any("root", s.Root)
	}
	if !s.Security.IsZero() {
		o.Any("security", s.Security)
	}
	if s.Logs != nil {
		o.Any("logs", s.Logs)
	}
	if s.Hostname != "" {
		o.Text("hostname", s.Hostname)
	}
	if s.Controllers != 0 {
		o.Text("controllers", s.Controllers.String())
	}
	if s.Subgroups {
		o.True("subgroups")
	}
}

func (p *Process) members(o *compact.Object) {
	o.Texts("args", p.Args)
	if len(p.Env) > 0 {
		o.Texts("env", p.Env)
	}
	if p.Dir != "" {
		o.Text("dir", p.Dir)
	}
	if p.User.UID != 0 || p.User.GID != 0 || p.User.Groups != nil {
		o.Any("user", p.User)
	}
	o.Texts("capabilities", p.Capabilities)
	if p.NewPrivileges {
		o.True("newPrivileges")
	}
	if p.Reaper {
		o.True("reaper")
	}
	if p.Terminal {
		o.True("terminal")
	}
	if p.OOMScoreAdj != nil {
		o.Any("oomScoreAdj", p.OOMScoreAdj)
	}
	if !p.Scheduling.IsZero() {
		o.Any("scheduling", p.Scheduling)
	}
	if len(p.Rlimits) > 0 {
		o.Any("rlimits", p.Rlimits)
	}
}

func (n *Namespaces) members(o *compact.Object) {
	for i, mode := range n.modes() {
		if mode != NamespaceDefault {
			o.Text(modeNames[i], mode.String())
		}
	}
	if len(n.UIDMap) > 0 {
		o.Any("uidMap", n.UIDMap)
	}
	if len(n.GIDMap) > 0 {
		o.Any("gidMap", n.GIDMap)
	}
	if n.Monotonic != 0 {
		o.Int("monotonic", int64(n.Monotonic))
	}
	if n.Boottime != 0 {
		o.Int("boottime", int64(n.Boottime))
	}
}

var modeNames = [8]string{"pid", "mount", "ipc", "uts", "network", "cgroup", "user", "time"}

func (n *Namespaces) modes() *[8]NamespaceMode {
	return &[8]NamespaceMode{n.PID, n.Mount, n.IPC, n.UTS, n.Network, n.Cgroup, n.User, n.Time}
}

func (s nativeState) MarshalJSON() ([]byte, error) {
	o := compact.NewObject(160)
	o.Object("group", func(o *compact.Object) {
		o.Number("dev", s.Group.Dev)
		o.Number("ino", s.Group.Ino)
	})
	if s.Starting {
		o.True("starting")
	}
	if s.PID != 0 {
		o.Number("pid", uint64(s.PID))
	}
	if s.Inode != 0 {
		o.Number("inode", s.Inode)
	}
	if s.Since != 0 {
		o.Number("since", s.Since)
	}
	if !s.StartedAt.IsZero() {
		o.Time("startedAt", s.StartedAt)
	}
	if s.Exit != nil {
		o.Object("exit", s.Exit.members)
	}
	if len(s.Missing) > 0 {
		o.Any("missing", s.Missing)
	}
	if len(s.Execs) > 0 {
		o.Any("execs", s.Execs)
	}
	return o.Bytes()
}

func (e *ExitStatus) members(o *compact.Object) {
	o.Bool("known", e.Known)
	o.Int("code", int64(e.Code))
	if e.Signal != 0 {
		o.Int("signal", int64(e.Signal))
	}
	if e.OOM {
		o.True("oom")
	}
	if !e.At.IsZero() {
		o.Time("at", e.At)
	}
}
