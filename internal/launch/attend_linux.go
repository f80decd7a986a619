// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/sys"
)

// attend does for a child on its way what only the parent can, and lets it go on:
// it fills a new user namespace, makes idmapped mounts, and announces the child. It reports whether the
// dumpable attribute is held for the child.
func (f *flight) attend(mapsFirst bool) (held bool) {
	h, p := f.arena.header(), f.program
	for atomic.LoadUint32(&h.index) == 0 {
		futex(&h.index, futexWait, 0)
	}
	if atomic.LoadUint32(&h.index) == notBegun {
		return false
	}
	if mapsFirst {
		f.attErr = whileDumpable(f.quit, f.writeMaps)
		held = f.attErr == nil
	} else {
		f.attErr = f.writeMaps()
	}
	if f.attErr == nil {
		f.attErr = p.makeIDMapped(int(h.pid))
	}
	if f.attErr == nil && p.announce != nil {
		f.attErr = p.announce(int(h.pid), int(h.pidfd))
	}
	if f.attErr != nil {
		atomic.StoreUint32(&h.abort, 1)
	}
	if p.word != nil {
		p.word.say()
	}
	atomic.StoreUint32(&h.mapped, 1)
	futex(&h.mapped, futexWake, 1)
	return held
}

// writeMaps fills the child's user namespace, if it has one of its own.
func (f *flight) writeMaps() error { return writeMaps(int(f.arena.header().pid), f.program.maps) }

// word is what a child waits for that must not outlive its parent unannounced: an
// eventfd by which the parent says "go on", and the parent's pidfd, which tells of
// its end. A pipe would not do, since other children have its ends too.
type word struct{ event, parent *sys.FD }

func newWord() (*word, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	parent, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("pidfd_open", err), unix.Close(event))
	}
	return &word{sys.NewFD(event), sys.NewFD(parent)}, nil
}

// say never fails: the counter is 0.
func (w *word) say() {
	_, _ = unix.Write(w.event.Int(), binary.NativeEndian.AppendUint64(nil, 1))
}

func (w *word) close() error {
	if w == nil {
		return nil
	}
	return errors.Join(w.event.Close(), w.parent.Close())
}

// waitForParent is where the child waits for what attend does.
func (p *Program) waitForParent() {
	if p.word == nil {
		p.waits = p.add(unix.SYS_FUTEX, field(offsetOfMapped), futexWait, 0, 0)
		p.steps[p.waits].flags |= flagWait
		return
	}
	var fds []byte // two struct pollfd
	for _, fd := range []*sys.FD{p.word.event, p.word.parent} {
		fds = binary.NativeEndian.AppendUint32(fds, uint32(fd.Int()))
		fds = binary.NativeEndian.AppendUint32(fds, unix.POLLIN)
	}
	p.waits = p.add(unix.SYS_PPOLL, fds, 2, 0, 0, 0)
	read := p.add(unix.SYS_READ, p.word.event.Int(), make([]byte, 8), 8) // EAGAIN: it was the parent's end
	p.label(read, "read(the parent's word)")
}
