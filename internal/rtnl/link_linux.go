// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Link is what [Socket.SetLink] makes of a link. What is zero stays as it is, but
// for Master.
type Link struct {
	Name, Alias string
	MAC         []byte
	MTU         int
	Master      int // index; 0: none
	Up          bool
}

// SetLink changes all of l with one message: each takes the kernel's lock on
// network configuration, which others may hold for long. A link that is up is not
// renamed before Linux 6.2. An error leaves what came before it changed.
func (s *Socket) SetLink(index int, l Link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	le := binary.NativeEndian
	msg := s.begin(unix.RTM_SETLINK, 0, unix.SizeofIfInfomsg)
	le.PutUint32(msg[4:], uint32(int32(index)))
	if l.Up {
		le.PutUint32(msg[8:], unix.IFF_UP)
		le.PutUint32(msg[12:], unix.IFF_UP)
	}
	if l.MAC != nil {
		s.req = appendAttribute(s.req, unix.IFLA_ADDRESS, l.MAC)
	}
	if l.MTU != 0 {
		s.req = appendAttribute(s.req, unix.IFLA_MTU, le.AppendUint32(nil, uint32(l.MTU)))
	}
	if l.Name != "" {
		s.req = appendAttribute(s.req, unix.IFLA_IFNAME, append([]byte(l.Name), 0))
	}
	if l.Alias != "" {
		s.req = appendAttribute(s.req, unix.IFLA_IFALIAS, []byte(l.Alias))
	}
	s.req = appendAttribute(s.req, unix.IFLA_MASTER, le.AppendUint32(nil, uint32(l.Master)))
	return s.send(0, nil)
}

// Index is the index of the link of that name, and its MTU, without the kernel's lock on network
// configuration. The error is ENODEV if there is none.
func (s *Socket) Index(name string) (index, mtu int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, 0, err
	}
	if err := unix.IoctlIfreq(s.fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, 0, err
	}
	index = int(req.Uint32())
	if err := unix.IoctlIfreq(s.fd, unix.SIOCGIFMTU, req); err != nil {
		return 0, 0, err
	}
	return index, int(req.Uint32()), nil
}
