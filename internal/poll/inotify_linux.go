// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"bytes"
	"encoding/binary"
	"os"
	"sync"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

func newInotify() (*sys.FD, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return sys.NewFD(fd), nil
}

// readInotify takes all events and calls what find says they concern. find is
// called with mu held, so that a Close waits, and what it returns without.
func readInotify(mu *sync.Mutex, fd *sys.FD, find func(wd int32, mask uint32, name string, concerned []func()) []func()) {
	var buf [4096]byte
	for {
		concerned, err := takeInotify(mu, fd, buf[:], find)
		if err != nil {
			return // EAGAIN: all read; EBADF: closed
		}
		for _, fn := range concerned {
			fn()
		}
	}
}

func takeInotify(mu *sync.Mutex, fd *sys.FD, buf []byte, find func(int32, uint32, string, []func()) []func()) ([]func(), error) {
	mu.Lock()
	defer mu.Unlock()
	n, err := unix.Read(fd.Int(), buf)
	if err == unix.EINTR {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var concerned []func()
	eachInotify(buf[:n], func(wd int32, mask uint32, name string) {
		concerned = find(wd, mask, name, concerned)
	})
	return concerned, nil
}

// eachInotify reads the events of inotify(7).
func eachInotify(buf []byte, fn func(wd int32, mask uint32, name string)) {
	for len(buf) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		if end > len(buf) {
			return
		}
		name, _, _ := bytes.Cut(buf[unix.SizeofInotifyEvent:end], []byte{0})
		buf = buf[end:]
		fn(wd, mask, string(name))
	}
}
