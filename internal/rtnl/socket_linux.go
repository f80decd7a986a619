// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Socket is a netlink socket in the network namespace of the thread that opened
// it. It is safe for use by many goroutines, which wait for each other.
type Socket struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	req []byte // kept, so that asking does not allocate
	buf [8192]byte
}

const sizeofTcmsg = 20

// Open opens a socket in the calling thread's namespace.
func Open() (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &Socket{fd: fd}, nil
}

// Close frees the descriptor. Closing twice, or a nil Socket, is nil.
func (s *Socket) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fd := s.fd
	if s.fd = -1; fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// Qdisc reads the counters of the queueing discipline handle of a link. The
// error is ENOENT if there is none of that handle, ENODEV if there is no link.
// It waits for the kernel's lock on network configuration.
func (s *Socket) Qdisc(link int, handle uint32) (Counters, error) {
	return s.ask(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, link, handle, 0)
}

// RootQdisc is Qdisc for the one that a link sends from, whatever its handle. The
// error is EINVAL if it has none.
func (s *Socket) RootQdisc(link int) (Counters, error) {
	return s.ask(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, link, 0, root)
}

const root = 0xffffffff // TC_H_ROOT

// Class reads the counters of the class handle of a link. Errors are those of
// [Socket.Qdisc].
func (s *Socket) Class(link int, handle uint32) (Counters, error) {
	return s.ask(unix.RTM_GETTCLASS, unix.RTM_NEWTCLASS, link, handle, 0)
}

func (s *Socket) ask(get, answer uint16, link int, handle, parent uint32) (c Counters, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tcm := s.begin(get, unix.NLM_F_ECHO, sizeofTcmsg) // the answer is a notification, which is otherwise for listeners only
	le := binary.NativeEndian
	le.PutUint32(tcm[4:], uint32(int32(link)))
	le.PutUint32(tcm[8:], handle)
	le.PutUint32(tcm[12:], parent)
	if err := s.send(answer, &c); err != nil {
		return Counters{}, err
	}
	return c, nil
}

// begin starts a request, and returns its zeroed body of that size.
func (s *Socket) begin(kind, flags uint16, size int) []byte {
	s.seq++
	s.req = append(s.req[:0], make([]byte, unix.SizeofNlMsghdr+size)...)
	le := binary.NativeEndian
	le.PutUint16(s.req[4:], kind)
	le.PutUint16(s.req[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	le.PutUint32(s.req[8:], s.seq)
	return s.req[unix.SizeofNlMsghdr:]
}

// send sends the request that was begun, and takes the counters of the answer, if
// there is one, and the kernel's word.
func (s *Socket) send(answer uint16, c *Counters) error {
	if s.fd < 0 {
		return os.ErrClosed
	}
	binary.NativeEndian.PutUint32(s.req, uint32(len(s.req)))
	if err := retry(func() error { _, err := unix.Write(s.fd, s.req); return err }); err != nil {
		return os.NewSyscallError("write", err)
	}
	// The kernel has answered by now, with the counters and then with the end of
	// the request.
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.Read(s.fd, s.buf[:]); return err })
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		if end, err := s.read(s.buf[:n], answer, c); end || err != nil {
			return err
		}
	}
}

// read goes through the messages of one datagram, up to the end of the request.
func (s *Socket) read(b []byte, answer uint16, c *Counters) (end bool, err error) {
	le := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(le.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, errMessage
		}
		body := b[unix.SizeofNlMsghdr:size]
		if le.Uint32(b[8:]) == s.seq { // not what an earlier, failed request left
			switch le.Uint16(b[4:]) {
			case unix.NLMSG_ERROR:
				if len(body) < 4 {
					return false, errMessage
				}
				if errno := int32(le.Uint32(body)); errno != 0 {
					return false, unix.Errno(-errno)
				}
				return true, nil
			case answer:
				if len(body) < sizeofTcmsg {
					return false, errMessage
				}
				if *c, err = parse(body[sizeofTcmsg:]); err != nil {
					return false, err
				}
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
