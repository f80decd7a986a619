// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/wire"
)

// inline is the largest message that goes through the socket itself: well below
// what a socket of a small machine takes.
const inline = 16 << 10

// conn is one end of a connection. One goroutine sends and one receives.
type conn struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

// newConn takes ownership of a socket that does not block.
func newConn(fd int) (*conn, error) {
	file := os.NewFile(uintptr(fd), "supervisor")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &conn{file: file, raw: raw}, nil
}

func (c *conn) close() error { return c.file.Close() }

// until has what is under way, and all that follows, end with the context. The
// connection is of no use then.
func (c *conn) until(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.file.SetDeadline(time.Unix(1, 0)) })
}

// peer is the process at the other end.
func (c *conn) peer() (cred *unix.Ucred, err error) {
	cerr := c.raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(cerr, os.NewSyscallError("getsockopt SO_PEERCRED", err))
}

// hungUp reports whether the other end is closed.
func (c *conn) hungUp() bool {
	gone := true
	err := c.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err != nil && err != unix.EINTR || n > 0
	})
	return gone || err != nil
}

// send sends one message. The descriptors in it stay the caller's. It gives
// [ErrNone] if the other end is closed.
func (c *conn) send(m *message) error {
	w := wire.Writer()
	m.walk(w)
	data, fds, err := w.Written()
	switch {
	case err != nil:
		return err
	case len(data) > maxMessage:
		return fmt.Errorf("a message of %d bytes: %w", len(data), unix.EMSGSIZE)
	}
	if len(data) > inline {
		body, err := sealed(data)
		if err != nil {
			return err
		}
		defer unix.Close(body)
		data, fds = []byte{1}, append(fds, body)
	}
	if len(fds) > maxFDs {
		return fmt.Errorf("a message with %d descriptors: %w", len(fds), unix.EMSGSIZE)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	werr := c.raw.Write(func(fd uintptr) bool {
		_, err = unix.SendmsgN(int(fd), data, oob, nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	switch {
	case werr != nil:
		return werr
	case err == unix.EPIPE, err == unix.ECONNRESET:
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	return os.NewSyscallError("sendmsg", err)
}

// receive waits for one message. Its descriptors are the caller's, in fds. At the
// end it is [io.EOF].
func (c *conn) receive() (m *message, fds []int, err error) {
	if c.buf == nil {
		c.buf = make([]byte, inline+unix.CmsgSpace(maxFDs*4))
	}
	data, oob := c.buf[:inline], c.buf[inline:]
	var n, oobn, flags int
	rerr := c.raw.Read(func(fd uintptr) bool {
		n, oobn, flags, _, err = unix.Recvmsg(int(fd), data, oob, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	switch {
	case rerr != nil:
		return nil, nil, rerr
	case err != nil:
		return nil, nil, os.NewSyscallError("recvmsg", err)
	}
	fds, err = rights(oob[:oobn])
	defer func() {
		if err != nil {
			closeAll(fds)
			m, fds = nil, nil
		}
	}()
	switch {
	case err != nil:
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = fmt.Errorf("%w: too large, or no room for its descriptors", wire.ErrMalformed)
	case n == 0:
		err = io.EOF
	case n == 1 && data[0] == 1 && len(fds) > 0:
		var body []byte
		if body, err = unsealed(fds[len(fds)-1]); err == nil {
			m, err = parse(body, fds[:len(fds)-1])
		}
	default:
		m, err = parse(data[:n], fds)
	}
	return m, fds, err
}

// rights are the descriptors of control messages.
func rights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fds, fmt.Errorf("%w: %w", wire.ErrMalformed, err)
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// sealed is a memfd with the data.
func sealed(data []byte) (int, error) {
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	for at := 0; at < len(data) && err == nil; {
		var n int
		n, err = unix.Write(fd, data[at:])
		at += max(n, 0)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("memfd", err)
	}
	return fd, nil
}

// unsealed reads what sealed has made, and nothing else: a pipe would keep us
// waiting, and a file could change under our hands.
func unsealed(fd int) ([]byte, error) {
	var st unix.Stat_t
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil || got&seals != seals || st.Size > maxMessage {
		return nil, fmt.Errorf("%w: what it is in is no sealed memfd of at most %d bytes", wire.ErrMalformed, maxMessage)
	}
	data := make([]byte, st.Size)
	for at := 0; at < len(data); {
		n, err := unix.Pread(fd, data[at:], int64(at))
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%w: %w", wire.ErrMalformed, errors.Join(err, io.ErrUnexpectedEOF))
		}
		at += n
	}
	return data, nil
}
