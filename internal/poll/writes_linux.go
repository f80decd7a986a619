// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"os"
	"strconv"
	"sync"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

// Writes tells when somebody writes to a file of a held directory, with one
// inotify instance. On cgroupfs, v1 and v2, that is every write that succeeded,
// by whomever and through whichever mount; what the kernel changes by itself is
// not among them, but for files that it notifies of (cgroup.events).
type Writes struct {
	fd *sys.FD

	mu   sync.Mutex
	dirs map[int32][]*Write // by watch descriptor
}

// Write is a directory of which writes are to be told.
type Write struct {
	dir int32
	fn  func(name string)
}

// NewWrites holds one descriptor.
func NewWrites() (*Writes, error) {
	fd, err := newInotify()
	if err != nil {
		return nil, err
	}
	return &Writes{fd: fd, dirs: make(map[int32][]*Write)}, nil
}

// FD is the descriptor that is ready ([In]) when [Writes.Read] has something to
// do.
func (w *Writes) FD() int { return w.fd.Int() }

// Add makes Read call fn with the name of a file of the held directory dir that
// was written to; with an empty name when events were lost. The directory may be
// closed after Add.
func (w *Writes) Add(dir int, fn func(name string)) (*Write, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := "/proc/self/fd/" + strconv.Itoa(dir)
	wd, err := unix.InotifyAddWatch(w.fd.Int(), path, unix.IN_MODIFY|unix.IN_ONLYDIR)
	if err != nil {
		return nil, &os.PathError{Op: "inotify_add_watch", Path: path, Err: err}
	}
	one := &Write{dir: int32(wd), fn: fn}
	w.dirs[one.dir] = append(w.dirs[one.dir], one)
	return one, nil
}

// Remove ends what Add began. It does not wait for a call of the function that
// has begun. Removing nil, or twice, does nothing.
func (w *Writes) Remove(one *Write) {
	if one == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.dirs[one.dir]
	for i, other := range all {
		if other != one {
			continue
		}
		w.dirs[one.dir] = append(all[:i:i], all[i+1:]...)
		if len(w.dirs[one.dir]) == 0 {
			delete(w.dirs, one.dir)
			// EINVAL if the directory is gone, which has ended the watch.
			_, _ = unix.InotifyRmWatch(w.fd.Int(), uint32(one.dir))
		}
		return
	}
}

// Read takes the writes that have happened and calls their functions.
func (w *Writes) Read() { readInotify(&w.mu, w.fd, w.concerned) }

// concerned appends the functions that an event concerns.
func (w *Writes) concerned(wd int32, mask uint32, name string, fns []func()) []func() {
	tell := func(all []*Write, name string) {
		for _, one := range all {
			fns = append(fns, func() { one.fn(name) })
		}
	}
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		for _, all := range w.dirs {
			tell(all, "")
		}
	case mask&unix.IN_IGNORED != 0: // the directory is gone
		delete(w.dirs, wd)
	default:
		tell(w.dirs[wd], name)
	}
	return fns
}

// Close frees the descriptor. Closing twice is nil.
func (w *Writes) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.dirs)
	return w.fd.Close()
}
