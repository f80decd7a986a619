// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// Lack is something that no sandbox of a host can have, and why.
type Lack struct {
	What string `json:"what"` // "limits, figures and freezing"
	Why  string `json:"why"`
}

// String is "WHAT: WHY".
func (l Lack) String() string { return l.What + ": " + l.Why }

// Lacks lists what sandboxes of this host cannot have for lack of privileges or of
// a group; root with cgroups has none. A spec that asks for one of these is
// refused by Create before anything is touched, with an error that matches
// [ErrNotSupported].
func (h *Host) Lacks() []Lack {
	var list []Lack
	add := func(what, why string) { list = append(list, Lack{what, why}) }
	if h.native.parent == nil {
		add("limits, figures, pressure and freezing", h.native.ungrouped.Error())
		add("the machine's pid namespace", "without a group a sandbox ends with the first process of a pid namespace")
	}
	if os.Geteuid() == 0 {
		return list
	}
	if off := userNamespacesOff(); off != "" {
		add("namespaces and a root of one's own", off)
	}
	uids, gids, elsewhere, err := namespaces.SubIDs()
	for _, k := range []struct {
		kind   string
		ranges []namespaces.IDRange
	}{{"user", uids}, {"group", gids}} {
		switch missing := idMapper(k.kind[0]); {
		case missing != "":
			add(k.kind+" ids besides one's own", missing)
		case err != nil:
			add(k.kind+" ids besides one's own", err.Error())
		case len(k.ranges) == 0 && !elsewhere:
			add(k.kind+" ids besides one's own", "/etc/sub"+k.kind[:1]+"id gives this user none")
		}
	}
	if old, err := sys.ReleaseBefore(5, 11); err == nil && old {
		add("roots of layers", "an overlay in a user namespace takes Linux 5.11")
	}
	add("idmapped roots and volumes", "they take CAP_SYS_ADMIN over the file system")
	add("interfaces, and networks of others", "they take CAP_NET_ADMIN over the machine's network")
	add("device rules on cgroup v2", "a device program takes CAP_BPF")
	for _, r := range []struct {
		what string
		id   int
	}{{"policies fifo and rr", launch.Rlimits["rtprio"]}, {"a nice value below one's own", launch.Rlimits["nice"]}} {
		if _, soft, err := rlimit(r.id); err == nil && soft == 0 {
			add(r.what, "they take CAP_SYS_NICE, or a resource limit that allows them")
		}
	}
	add("the io class realtime", "it takes CAP_SYS_NICE")
	add("an oom_score_adj below one's own, and resource limits above one's own", "they take CAP_SYS_RESOURCE")
	return list
}

// userNamespacesOff is why this user can have no user namespace, as far as a
// switch says it.
func userNamespacesOff() string {
	for path, off := range map[string]string{
		"/proc/sys/user/max_user_namespaces": "0", "/proc/sys/kernel/unprivileged_userns_clone": "0",
	} {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == off {
			return path + " is " + off
		}
	}
	return ""
}

// idMapper is what is missing to map further ids of the kind 'u' or 'g'.
func idMapper(kind byte) string {
	program := launch.IDMapper(string(kind) + "id")
	if _, err := exec.LookPath(program); err != nil {
		return program + " is not in PATH"
	}
	return ""
}

// adapt makes of a spec what the host's user can have of it: of an ordinary user's,
// the user namespace that all else takes. It fails with everything that the spec
// asks for and the host lacks, of which it has touched nothing.
func (h *Host) adapt(s *Spec) error {
	var errs []error
	lack := func(feature, why string) {
		errs = append(errs, &UnsupportedError{Feature: feature, Reason: why})
	}
	if h.native.parent == nil {
		if !s.Resources.IsZero() || s.Controllers != 0 {
			lack("resources", h.native.ungrouped.Error())
		}
		if !s.Namespaces.Kinds().Has(namespaces.PID) {
			lack("namespaces.pid", "without a group a sandbox ends with the first process of a pid namespace")
		}
	}
	if os.Geteuid() == 0 {
		return errors.Join(errs...)
	}
	if why := s.plainNetwork(); why != "" {
		lack("network", why)
	}
	n := &s.Namespaces
	kinds := n.Kinds()
	if kinds != 0 || !s.Root.IsZero() {
		switch n.User {
		case NamespaceDefault:
			n.User = NamespaceNew
			n.UIDMap, n.GIDMap = namespaces.OwnIDMaps(s.Process.User.UID, s.Process.User.GID)
		case NamespaceNew:
		case NamespaceHost:
			lack(fmt.Sprintf("namespaces %s of its own without one for users", kinds), "they take CAP_SYS_ADMIN over the caller's")
		}
		if off := userNamespacesOff(); off != "" {
			lack("user namespace", off)
		}
	}
	if s.Root.idMapped() {
		lack("root.idMapped", "it takes CAP_SYS_ADMIN over the file system")
	}
	errs = append(errs, mappable(*n)...)
	if len(s.Process.User.Groups) > 0 && n.GIDMap.Only(os.Getegid()) {
		lack("process.user.groups", onlyOwnGroup)
	}
	return errors.Join(append(errs, s.Process.grantable()...)...)
}

const onlyOwnGroup = "where only the caller's own group is mapped, nobody may set others"

// plainNetwork says in Namespaces what Network says, if it can be said there, and
// otherwise why it cannot be had.
func (s *Spec) plainNetwork() (why string) {
	net := s.Network
	switch {
	case net.Mode == "":
		return ""
	case net.Equal(netns.Spec{Mode: netns.ModeNew}):
		s.Network, s.Namespaces.Network = netns.Spec{}, NamespaceNew
	case net.Equal(netns.Spec{Mode: netns.ModeHost}):
		s.Network, s.Namespaces.Network = netns.Spec{}, NamespaceHost
	default:
		return "more than a loopback device takes CAP_NET_ADMIN over the machine's network"
	}
	return ""
}

// mappable says which ids outside of a map are not the caller's, as far as that
// can be known before.
func mappable(n Namespaces) (errs []error) {
	uids, gids, elsewhere, err := namespaces.SubIDs()
	if err != nil {
		return []error{err}
	}
	for _, m := range []struct {
		kind  string
		maps  namespaces.IDMaps
		own   int
		given []namespaces.IDRange
	}{{"uid", n.UIDMap, os.Geteuid(), uids}, {"gid", n.GIDMap, os.Getegid(), gids}} {
		if len(m.maps) == 0 || m.maps.Only(m.own) {
			continue
		}
		missing := idMapper(m.kind[0])
		for _, l := range m.maps {
			if missing == "" && !elsewhere && !given(l, m.own, m.given) {
				missing = fmt.Sprintf("/etc/sub%s does not give this user all of %d to %d", m.kind, l.Outside, uint64(l.Outside)+uint64(l.Count)-1)
			}
		}
		if missing != "" {
			errs = append(errs, &UnsupportedError{Feature: fmt.Sprintf("namespaces.%sMap", m.kind), Reason: missing})
		}
	}
	return errs
}

// given reports whether a line of a map is the caller's to write.
func given(l namespaces.IDMap, own int, ranges []namespaces.IDRange) bool {
	if l.Count == 1 && int(l.Outside) == own {
		return true
	}
	for _, r := range ranges {
		if l.Outside >= r.First && uint64(l.Outside)+uint64(l.Count) <= uint64(r.First)+uint64(r.Count) {
			return true
		}
	}
	return false
}

// grantable says what of a process an ordinary user may not grant.
func (p Process) grantable() (errs []error) {
	lack := func(feature, why string) {
		errs = append(errs, &UnsupportedError{Feature: "process." + feature, Reason: why})
	}
	for _, r := range p.Rlimits {
		if hard, _, err := rlimit(launch.Rlimits[r.Name]); err == nil && r.Hard > hard {
			lack("rlimits", fmt.Sprintf("%s above the caller's own %d takes CAP_SYS_RESOURCE", r.Name, hard))
		}
	}
	if p.OOMScoreAdj != nil {
		text, err := os.ReadFile("/proc/self/oom_score_adj")
		if own, nerr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && nerr == nil && *p.OOMScoreAdj < own {
			lack("oomScoreAdj", fmt.Sprintf("less than the caller's own %d takes CAP_SYS_RESOURCE", own))
		}
	}
	s := p.Scheduling
	if _, most, err := rlimit(launch.Rlimits["rtprio"]); err == nil && s.Priority > 0 && uint64(s.Priority) > most {
		lack("scheduling.priority", fmt.Sprintf("more than the resource limit rtprio, %d, takes CAP_SYS_NICE", most))
	}
	if _, most, err := rlimit(launch.Rlimits["nice"]); err == nil && s.Nice != nil && *s.Nice < 0 && uint64(20-*s.Nice) > most {
		lack("scheduling.nice", fmt.Sprintf("less than the resource limit nice allows, %d, takes CAP_SYS_NICE", most))
	}
	if s.IOClass == IORealtime {
		lack("scheduling.ioClass", "realtime takes CAP_SYS_NICE")
	}
	return errs
}

// rlimit is the caller's own resource limit.
func rlimit(resource int) (hard, soft uint64, err error) {
	var l syscall.Rlimit
	err = syscall.Getrlimit(resource, &l)
	return l.Max, l.Cur, err
}
