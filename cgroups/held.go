// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// held are the descriptors through which a group is measured, opened at first
// use.
type held struct {
	// mu is held for reading during each use of a file, so that Close cannot
	// free a number that is inside a system call.
	mu     sync.RWMutex
	closed bool
	looked uint64 // files that were looked for, a bit each; those that are nil do not exist
	files  [numStatFiles]*kernfs.File
	huge   []hugeFiles

	users   atomic.Int32 // uses under way
	opened  int          // descriptors
	charged int          // those that the root's budget knows of
}

// begin begins a use, which end ends.
func (h *held) begin() {
	h.users.Add(1)
	h.mu.RLock()
}

// end ends a use. What it opened is kept if the budget allows.
func (h *held) end(b *budget) {
	settled := h.opened == h.charged
	h.mu.RUnlock()
	if h.users.Add(-1) > 0 || settled {
		return // or the last user settles
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.users.Load() > 0 {
		return
	}
	b.give(h.charged)
	if h.charged = h.opened; b.take(h.charged) {
		return
	}
	_ = h.free() // they were only read
	h.looked, h.opened, h.charged = 0, 0, 0
}

// close frees the descriptors; later uses get [os.ErrClosed].
func (h *held) close(b *budget) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	b.give(h.charged)
	h.opened, h.charged = 0, 0
	return h.free()
}

func (h *held) free() error {
	var errs []error
	for i, f := range h.files {
		if f != nil {
			errs = append(errs, f.Close())
			h.files[i] = nil
		}
	}
	for i := range h.huge {
		errs = append(errs, h.huge[i].close())
	}
	h.huge = nil
	return errors.Join(errs...)
}

// view is where a group's files are, at one moment.
type view struct {
	at  [numControllers]*node
	uni *node
}

func (c *Cgroup) view() view {
	c.layout.RLock()
	defer c.layout.RUnlock()
	return view{c.at, c.uni}
}

// holder is the directory that has file f, or nil if there is none.
func (v *view) holder(f statFile) *node {
	row := &statFiles[f]
	if row.on == onUnified {
		// cpuacct is the better witness where it is: processes need not be in
		// the unified twin of a group that others made.
		if acct := v.at[ControllerCPUAcct]; f == fileCPUStatUnified && acct != nil && !acct.in.v2 {
			return nil
		}
		return v.uni
	}
	n := v.at[row.under]
	if n == nil || row.on == onV1 && n.in.v2 || row.on == onV2 && !n.in.v2 {
		return nil
	}
	return n
}

// file returns file f of the group, or nil if the kernel has no such file. The
// caller holds mu for reading; it is released for a moment when the file must
// be opened.
func (h *held) file(f statFile, n *node) (*kernfs.File, error) {
	if h.looked>>f&1 == 0 {
		h.mu.RUnlock()
		err := h.lookFor(f, n)
		h.mu.RLock()
		if err != nil {
			return nil, err
		}
	}
	if h.closed {
		return nil, &FileError{Op: "read", Path: n.dir.Join(fileName(f)), Err: os.ErrClosed}
	}
	return h.files[f], nil
}

// text reads file f into the scratch buffer. A nil file without an error says
// that the group, or the kernel, has none.
func (h *held) text(f statFile, v *view, buf *[]byte) ([]byte, *kernfs.File, error) {
	n := v.holder(f)
	if n == nil {
		return nil, nil, nil
	}
	file, err := h.file(f, n)
	if err != nil || file == nil {
		return nil, nil, err
	}
	text, err := read(file, buf)
	return text, file, n.failed(err)
}

// lookFor opens file f.
func (h *held) lookFor(f statFile, n *node) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.looked>>f&1 != 0 {
		return nil
	}
	file, err := n.openOrAbsent(fileName(f))
	if err != nil {
		return err
	}
	// A pressure file that cgroup.pressure hides may come back.
	if file == nil && f >= filePressureCPU && n.pressureOff() {
		return nil
	}
	h.files[f] = file
	h.looked |= 1 << f
	if file != nil {
		h.opened++
	}
	return nil
}

// drop closes file f, which then is looked for again or stays absent. The
// caller holds mu for reading; it is released for a moment.
func (h *held) drop(f statFile, again bool) {
	h.mu.RUnlock()
	defer h.mu.RLock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files[f] != nil {
		_ = h.files[f].Close()
		h.files[f] = nil
		h.opened--
	}
	if again {
		h.looked &^= 1 << f
	}
}

// openOrAbsent holds the node's file name for reading. That it does not exist
// is an answer, nil, unless it is the group that does not.
func (n *node) openOrAbsent(name string) (*kernfs.File, error) {
	file, err := n.dir.Open(name, os.O_RDONLY)
	if err == nil {
		return file, nil
	}
	if err = n.failed(err); errors.Is(err, syscall.ENOENT) && !errors.Is(err, ErrGone) {
		return nil, nil //nolint:nilnil // absent, see above
	}
	return nil, err
}

// scratch is where files are read into: as many buffers as there are readers at
// once, for all groups of a root.
type scratch struct{ pool sync.Pool }

func (s *scratch) get() *[]byte {
	if b, ok := s.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 4096)
	return &b
}

func (s *scratch) put(b *[]byte) { s.pool.Put(b) }

// read reads file whole into the scratch buffer, which grows as needed. What is
// measured is in files of one record, which the kernel writes at one moment and
// gives out whole if there is room: a read that leaves some has seen it all.
func read(file *kernfs.File, buf *[]byte) ([]byte, error) {
	for {
		n, err := file.ReadAt(*buf)
		if err != nil {
			return nil, err
		}
		if n < len(*buf) {
			return (*buf)[:n], nil
		}
		*buf = make([]byte, 4*len(*buf))
	}
}

// notUnderstood says which file made no sense, and why.
func notUnderstood(file *kernfs.File, text []byte, err error) error {
	return &FileError{Op: "parse", Path: file.Path(), Data: string(text), Err: err}
}
