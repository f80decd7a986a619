// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"

	"github.com/caisson-run/caisson/internal/wire"
)

// errCalls refuses what cannot travel.
var errCalls = errors.New("holds arguments of this process, and cannot be handed to another one")

// Marshal is the Spec for another process to compile, with the descriptors that
// it has to be given. A Spec with Calls cannot be handed on: a *[SpecError]. A
// Stub is: the other process has its own.
func (s *Spec) Marshal() (data []byte, fds []int, err error) {
	if len(s.Calls) > 0 {
		return nil, nil, bad("Calls", len(s.Calls), errCalls)
	}
	c := wire.Writer()
	stub := s.Stub != nil
	s.walk(c, &stub)
	return c.Written()
}

// Unmarshal reads what Marshal has written. stub is called if the Spec wants one.
// The result is plain data, and not valid for having been read: [Compile] judges.
func Unmarshal(data []byte, fds []int, stub func() (*Stub, error)) (s Spec, err error) {
	c := wire.Reader(data, fds)
	wanted := false
	s.walk(c, &wanted)
	if err := c.Ended(); err != nil {
		return Spec{}, err
	}
	if wanted {
		if s.Stub, err = stub(); err != nil {
			return Spec{}, err
		}
	}
	return s, nil
}

// walk goes through everything but Calls and Stub.
func (s *Spec) walk(c *wire.Codec, stub *bool) {
	wire.Text(c, &s.Path)
	wire.Texts(c, &s.Args)
	wire.Texts(c, &s.Env)
	wire.List(c, &s.Files, wire.FD)
	wire.Text(c, &s.Dir)
	wire.Maybe(c, &s.Cgroup, walkFile)
	wire.List(c, &s.Tasks, walkFile)
	wire.Maybe(c, &s.OOMScoreAdj, wire.Number[int])
	wire.Number(c, &s.Namespaces)
	for _, maps := range []*[]IDMap{&s.UIDMaps, &s.GIDMaps} {
		wire.List(c, maps, func(c *wire.Codec, m *IDMap) {
			wire.Number(c, &m.Inside)
			wire.Number(c, &m.Outside)
			wire.Number(c, &m.Count)
		})
	}
	wire.Truth(c, &s.Setgroups)
	wire.List(c, &s.Join, func(c *wire.Codec, j *Join) {
		walkFile(c, &j.File)
		wire.Number(c, &j.Kind)
	})
	wire.Number(c, &s.Monotonic)
	wire.Number(c, &s.Boottime)
	wire.Text(c, &s.Hostname)
	wire.Text(c, &s.Domainname)
	wire.Number(c, &s.Propagation)
	wire.Texts(c, &s.Unmounts)
	wire.List(c, &s.Mounts, func(c *wire.Codec, m *Mount) {
		for _, text := range []*string{&m.Source, &m.Target, &m.Type, &m.Data} {
			wire.Text(c, text)
		}
		wire.Number(c, &m.Flags)
	})
	wire.Truth(c, &s.Confined)
	wire.Maybe(c, &s.Root, walkRoot)
	wire.Truth(c, &s.Loopback)
	wire.List(c, &s.Writes, func(c *wire.Codec, w *Write) {
		wire.Text(c, &w.Path)
		wire.Text(c, &w.Data)
		wire.Truth(c, &w.Optional)
	})
	wire.Truth(c, &s.Setsid)
	wire.Truth(c, &s.Terminal)
	wire.Maybe(c, &s.Umask, wire.Number[uint32])
	wire.List(c, &s.Rlimits, func(c *wire.Codec, r *Rlimit) {
		wire.Number(c, &r.Resource)
		wire.Number(c, &r.Soft)
		wire.Number(c, &r.Hard)
		wire.Truth(c, &r.Optional)
	})
	wire.Maybe(c, &s.Scheduling, walkScheduling)
	wire.Truth(c, &s.Keyring)
	wire.Maybe(c, &s.Credential, func(c *wire.Codec, v *Credential) {
		wire.Number(c, &v.UID)
		wire.Number(c, &v.GID)
		wire.List(c, &v.Groups, wire.Number[uint32])
		wire.Truth(c, &v.KeepGroups)
	})
	wire.Maybe(c, &s.Capabilities, func(c *wire.Codec, v *Capabilities) {
		for _, set := range []*CapSet{&v.Bounding, &v.Permitted, &v.Effective, &v.Inheritable, &v.Ambient} {
			wire.Number(c, set)
		}
	})
	wire.Truth(c, &s.NoNewPrivs)
	wire.Maybe(c, &s.Ticket, walkFile)
	wire.Truth(c, stub)
	wire.Truth(c, &s.Reaper)
	wire.Number(c, &s.Scoped)
	wire.List(c, &s.FileRules, func(c *wire.Codec, r *FileRule) {
		wire.Text(c, &r.Path)
		for _, allowed := range []*bool{&r.Read, &r.Write, &r.Execute} {
			wire.Truth(c, allowed)
		}
	})
	if wire.Text(c, &s.Seccomp); len(s.Seccomp) == 0 {
		s.Seccomp = nil
	}
}

func walkFile(c *wire.Codec, f *File) {
	wire.FD(c, &f.FD)
	wire.Text(c, &f.Path)
}

func walkScheduling(c *wire.Codec, s *Scheduling) {
	wire.List(c, &s.CPUs, wire.Number[int])
	wire.Number(c, &s.Policy)
	wire.Maybe(c, &s.Nice, wire.Number[int])
	wire.Number(c, &s.Priority)
	wire.Number(c, &s.IOClass)
	wire.Number(c, &s.IOLevel)
	wire.Truth(c, &s.Core)
}

func walkRoot(c *wire.Codec, r *Root) {
	walkTree(c, &r.Tree)
	wire.List(c, &r.Items, func(c *wire.Codec, i *Item) {
		wire.Text(c, &i.Path)
		wire.Truth(c, &i.Follow)
		wire.Number(c, &i.Make)
		wire.Number(c, &i.Mode)
		wire.Number(c, &i.Device)
		wire.Text(c, &i.Link)
		wire.Maybe(c, &i.Mount, walkTree)
		wire.Number(c, &i.Attr)
	})
	wire.Truth(c, &r.ReadOnly)
}

func walkTree(c *wire.Codec, t *Tree) {
	wire.Text(c, &t.Bind)
	wire.Maybe(c, &t.FD, walkFile)
	wire.Maybe(c, &t.Overlay, func(c *wire.Codec, o *Overlay) {
		wire.Texts(c, &o.Lower)
		wire.Text(c, &o.Upper)
		wire.Text(c, &o.Work)
		wire.Texts(c, &o.Options)
		wire.Truth(c, &o.Unprivileged)
		wire.Truth(c, &o.IDMapped)
	})
	wire.Text(c, &t.Type)
	wire.Text(c, &t.Source)
	wire.Texts(c, &t.Options)
	wire.Number(c, &t.Attr)
	wire.Truth(c, &t.Slave)
	wire.Truth(c, &t.IDMapped)
}
