// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"os"
	"strconv"
	"sync"

	"github.com/caisson-run/caisson/internal/sys"
	"golang.org/x/sys/unix"
)

// Removals tells when directories are removed. It watches their parents with
// one inotify instance: a directory that is held open does not report its own
// removal, and the kernel does not wake who polls the files of a removed cgroup
// (but for pressure triggers).
type Removals struct {
	fd *sys.FD

	mu      sync.Mutex
	parents map[int32]map[string][]*Removal // by watch descriptor, then name
}

// Removal is a directory whose removal is to be told.
type Removal struct {
	parent int32
	name   string
	fn     func()
}

// NewRemovals holds one descriptor.
func NewRemovals() (*Removals, error) {
	fd, err := newInotify()
	if err != nil {
		return nil, err
	}
	return &Removals{fd: fd, parents: make(map[int32]map[string][]*Removal)}, nil
}

// FD is the descriptor that is ready ([In]) when [Removals.Read] has something
// to do.
func (r *Removals) FD() int { return r.fd.Int() }

// Add makes Read call fn when the directory called name, beside or equal to the
// held directory dir, is removed. fn must make sure that it is dir which is gone:
// it is also called when events were lost. The directory may be closed after Add.
func (r *Removals) Add(dir int, name string, fn func()) (*Removal, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	parent := "/proc/self/fd/" + strconv.Itoa(dir) + "/.."
	wd, err := unix.InotifyAddWatch(r.fd.Int(), parent, unix.IN_DELETE|unix.IN_ONLYDIR)
	if err != nil {
		return nil, &os.PathError{Op: "inotify_add_watch", Path: parent, Err: err}
	}
	names := r.parents[int32(wd)]
	if names == nil {
		names = make(map[string][]*Removal)
		r.parents[int32(wd)] = names
	}
	m := &Removal{parent: int32(wd), name: name, fn: fn}
	names[name] = append(names[name], m)
	return m, nil
}

// Remove ends what Add began. It does not wait for a call of the function that
// has begun. Removing nil, or twice, does nothing.
func (r *Removals) Remove(m *Removal) {
	if m == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	names := r.parents[m.parent]
	for i, other := range names[m.name] {
		if other != m {
			continue
		}
		names[m.name] = append(names[m.name][:i:i], names[m.name][i+1:]...)
		if len(names[m.name]) == 0 {
			delete(names, m.name)
		}
		if len(names) == 0 {
			delete(r.parents, m.parent)
			// EINVAL if the parent is gone, which has ended the watch.
			_, _ = unix.InotifyRmWatch(r.fd.Int(), uint32(m.parent))
		}
		return
	}
}

// Read takes the removals that have happened and calls their functions.
func (r *Removals) Read() { readInotify(&r.mu, r.fd, r.concerned) }

// concerned appends the functions that an event concerns.
func (r *Removals) concerned(wd int32, mask uint32, name string, fns []func()) []func() {
	tell := func(names map[string][]*Removal) {
		for _, ms := range names {
			for _, m := range ms {
				fns = append(fns, m.fn)
			}
		}
	}
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		for _, names := range r.parents {
			tell(names)
		}
	case mask&unix.IN_IGNORED != 0: // the parent is gone
		tell(r.parents[wd])
		delete(r.parents, wd)
	default:
		for _, m := range r.parents[wd][name] {
			fns = append(fns, m.fn)
		}
	}
	return fns
}

// Close frees the descriptor. Closing twice is nil.
func (r *Removals) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.parents)
	return r.fd.Close()
}
