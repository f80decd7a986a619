// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"errors"
	"os"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/poll"
)

// OnWrite calls fn each time somebody has written to a knob of the group under
// one of the controllers: this process, another one, through any mount. Writes
// that follow each other closely may be one call. Device programs of cgroup v2
// are no files; nothing tells of them.
//
// fn runs on the engine's goroutine, where it must not block: all events of all
// watches wait for it. cancel ends the calls, and does not wait for one that
// has begun; it may be called at any time, and again.
//
// Returns [os.ErrClosed] after Close, and the kernel's answer if this user has
// no inotify watch left (fs.inotify.max_user_watches).
func (e *Engine) OnWrite(c *cgroups.Cgroup, under cgroups.Controllers, fn func()) (cancel func(), err error) {
	writes, err := e.writesOf()
	if err != nil {
		return nil, err
	}
	var all []*poll.Write
	cancel = func() {
		for _, w := range all {
			writes.Remove(w)
		}
	}
	for _, dir := range c.FDs(under) {
		w, err := writes.Add(dir, func(file string) {
			if file == "" || cgroups.IsKnob(file) {
				fn()
			}
		})
		if err != nil {
			cancel()
			return nil, err
		}
		all = append(all, w)
	}
	return cancel, nil
}

// writesOf returns what tells of writes, opening it for the first.
func (e *Engine) writesOf() (*poll.Writes, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, os.ErrClosed
	}
	if e.writes == nil {
		w, err := poll.NewWrites()
		if err != nil {
			return nil, err
		}
		if _, err := e.add(w.FD(), poll.In, func(poll.Events) { w.Read() }); err != nil {
			return nil, errors.Join(err, w.Close())
		}
		e.writes = w
	}
	return e.writes, nil
}
