// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"github.com/caisson-run/caisson/internal/compact"
	"github.com/caisson-run/caisson/namespaces"
)

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
		o.Any("resources", &s.Resources)
	}
	if n := &s.Namespaces; *n.modes() != [8]NamespaceMode{} || n.UIDMap != nil || n.GIDMap != nil ||
		n.Monotonic != 0 || n.Boottime != 0 {
		o.Object("namespaces", n.members)
	}
	if !s.Network.IsZero() {
		o.Any("network", s.Network)
	}
	if !s.Root.IsZero() {
		o.Object("root", s.Root.members)
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
	mapMembers(o, "uidMap", n.UIDMap)
	mapMembers(o, "gidMap", n.GIDMap)
	if n.Monotonic != 0 {
		o.Int("monotonic", int64(n.Monotonic))
	}
	if n.Boottime != 0 {
		o.Int("boottime", int64(n.Boottime))
	}
}

func mapMembers(o *compact.Object, name string, ids namespaces.IDMaps) {
	if len(ids) == 0 {
		return
	}
	o.Objects(name, len(ids), func(i int, o *compact.Object) {
		o.Number("inside", uint64(ids[i].Inside))
		o.Number("outside", uint64(ids[i].Outside))
		o.Number("count", uint64(ids[i].Count))
	})
}

var modeNames = [8]string{"pid", "mount", "ipc", "uts", "network", "cgroup", "user", "time"}

func (n *Namespaces) modes() *[8]NamespaceMode {
	return &[8]NamespaceMode{n.PID, n.Mount, n.IPC, n.UTS, n.Network, n.Cgroup, n.User, n.Time}
}

func (r *Root) members(o *compact.Object) {
	if r.Path != "" {
		o.Text("path", r.Path)
	}
	if len(r.Layers) > 0 {
		o.Texts("layers", r.Layers)
	}
	if r.Upper != "" {
		o.Text("upper", r.Upper)
	}
	if r.Size != 0 {
		o.Number("size", r.Size)
	}
	if r.IDMapped {
		o.True("idMapped")
	}
	if r.ReadOnly {
		o.True("readOnly")
	}
	if r.Bare {
		o.True("bare")
	}
	if len(r.Volumes) > 0 {
		o.Objects("volumes", len(r.Volumes), func(i int, o *compact.Object) { r.Volumes[i].members(o) })
	}
	o.Texts("masked", r.Masked)
	o.Texts("guarded", r.Guarded)
}

func (v *Volume) members(o *compact.Object) {
	o.Text("target", v.Target)
	if v.Source != "" {
		o.Text("source", v.Source)
	}
	if v.IDMapped {
		o.True("idMapped")
	}
	if v.ReadOnly {
		o.True("readOnly")
	}
	if v.NoExec {
		o.True("noExec")
	}
	if v.Slave {
		o.True("slave")
	}
	if v.Size != 0 {
		o.Number("size", v.Size)
	}
	if v.Mode != 0 {
		o.Number("mode", uint64(v.Mode))
	}
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
