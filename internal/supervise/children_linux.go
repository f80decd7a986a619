// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/internal/poll"
	"github.com/caisson-run/caisson/internal/sys"
)

// entry is a process that was launched, until its sandbox is forgotten.
type entry struct {
	id      string
	process Process
	child   *launch.Child
	settled chan struct{} // closed once it is taken, or never will be
	ended   chan struct{} // closed once exit is set
	exit    Exit

	// Guarded by the server's mu.
	doomed bool // nobody takes it: it is killed, and was never there
	acked  bool // how it ended is known
	saved  bool // or on disk
}

// launch starts a process. reply tells of it; done closes what is in there.
func (s *server) launch(ctx context.Context, c *conn, m *message, reply *message) (*entry, func(), error) {
	nothing := func() {}
	spec, err := launch.Unmarshal(m.Spec, m.Files, s.stub)
	if err != nil {
		return nil, nothing, &Refusal{err}
	}
	if spec.OOMScoreAdj == nil && m.OOM != s.oom {
		spec.OOMScoreAdj = &m.OOM // the agent's, which a child of it would inherit
	}
	program, err := launch.Compile(spec)
	if err != nil {
		return nil, nothing, &Refusal{err}
	}
	e, err := s.reserve(ctx, m.ID)
	if err != nil {
		_ = program.Close()
		return nil, nothing, err
	}
	if c.hungUp() { // it may have been a long time ago
		_ = program.Close()
		s.unreserve(e)
		return nil, nothing, context.Canceled
	}
	if m.FD >= 0 {
		e.child, err = program.StartOn(ctx, func(birth func()) error { return within(m.FD, birth) })
	} else {
		e.child, err = program.Start(ctx)
	}
	if err != nil {
		s.unreserve(e)
		return nil, nothing, err
	}
	if e.process, err = identify(e.child); err == nil {
		var pidfd *sys.FD
		if pidfd, err = e.child.PIDFD.Dup(); err == nil {
			reply.Process, reply.FD = e.process, pidfd.Int()
			for _, d := range e.child.Degraded {
				reply.Degraded = append(reply.Degraded, *failed(d))
			}
			s.mu.Lock()
			s.living++
			s.mu.Unlock()
			if _, err = s.poller.Add(e.child.PIDFD.Int(), poll.In|poll.Once, func(poll.Events) { s.end(e) }); err == nil {
				return e, func() { _ = pidfd.Close() }, nil
			}
			s.mu.Lock()
			s.living--
			s.mu.Unlock()
			_ = pidfd.Close()
		}
	}
	_ = sys.PidfdSignal(e.child.PIDFD.Int(), syscall.SIGKILL)
	_, _ = e.child.Wait()
	_ = e.child.PIDFD.Close()
	s.unreserve(e)
	reply.Process, reply.FD, reply.Degraded = Process{}, -1, nil
	return nil, nothing, err
}

// within runs birth on a thread that is in a network namespace. The caller's
// goroutine ends soon, and with it the thread if it cannot go back.
func within(ns int, birth func()) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return &os.PathError{Op: "open", Path: "/proc/thread-self/ns/net", Err: err}
	}
	defer unix.Close(home)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("setns", err)
	}
	birth()
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return nil
}

// identify says which process a child is. Nobody has reaped it.
func identify(c *launch.Child) (p Process, err error) {
	p.PID = c.PID
	p.Inode, p.Since, err = linux.Identify(c.PID, c.PIDFD.Int())
	return p, err
}

// reserve makes an entry for id. What nobody has taken has to be gone first.
func (s *server) reserve(ctx context.Context, id string) (*entry, error) {
	for {
		s.mu.Lock()
		old := s.entries[id]
		if old == nil || isClosed(old.ended) {
			e := &entry{id: id, settled: make(chan struct{}), ended: make(chan struct{})}
			s.admit(e)
			s.mu.Unlock()
			_ = s.exits.remove(id) // or the next end replaces it
			return e, nil
		}
		doomed := old.doomed || !isClosed(old.settled)
		s.mu.Unlock()
		if !doomed {
			return nil, fmt.Errorf("process %d of %q runs: %w", old.process.PID, id, unix.EEXIST)
		}
		select {
		case <-old.ended:
		case <-old.settled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !isClosed(old.ended) { // settled: taken, or killed and not dead yet
			s.mu.Lock()
			doomed = old.doomed
			s.mu.Unlock()
			if doomed {
				select {
				case <-old.ended:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}
	}
}

// maxEnded is how many further processes of a sandbox are remembered when they have
// ended.
const maxEnded = 16

// admit takes an entry in. The caller holds mu.
func (s *server) admit(e *entry) {
	if old := s.entries[e.id]; old != nil {
		s.strike(old)
	}
	s.entries[e.id] = e
	sandbox, name := Owner(e.id)
	if name == "" {
		return
	}
	list, left := s.further[sandbox], s.left[sandbox]
	ended := len(left)
	for _, f := range list {
		if isClosed(f.ended) {
			ended++
		}
	}
	for ; ended >= maxEnded && len(left) > 0; ended-- {
		_ = s.exits.remove(left[0])
		left = left[1:]
	}
	if s.left[sandbox] = left; len(left) == 0 {
		delete(s.left, sandbox)
	}
	for _, f := range slices.Clone(list) {
		if ended >= maxEnded && isClosed(f.ended) {
			ended--
			s.strike(f)
			_ = s.exits.remove(f.id)
		}
	}
	s.further[sandbox] = append(s.further[sandbox], e)
}

// strike takes an entry out, if it still is its id's. The caller holds mu.
func (s *server) strike(e *entry) {
	if s.entries[e.id] != e {
		return
	}
	delete(s.entries, e.id)
	sandbox, name := Owner(e.id)
	if name == "" {
		return
	}
	list := slices.DeleteFunc(s.further[sandbox], func(f *entry) bool { return f == e })
	if s.further[sandbox] = list; len(list) == 0 {
		delete(s.further, sandbox)
	}
}

// unreserve takes an entry back whose process does not exist.
func (s *server) unreserve(e *entry) {
	s.mu.Lock()
	s.strike(e)
	s.mu.Unlock()
	close(e.settled)
	close(e.ended)
	s.idle()
}

// take leaves the process to who has asked for it.
func (s *server) take(e *entry) { close(e.settled) }

// discard undoes a launch that nobody has taken delivery of.
func (s *server) discard(e *entry) {
	s.mu.Lock()
	e.doomed = true
	if s.entries[e.id] == e && isClosed(e.ended) {
		s.strike(e)
		_ = s.exits.remove(e.id)
	}
	pidfd, err := e.child.PIDFD.Dup()
	s.mu.Unlock()
	if err == nil {
		_ = sys.PidfdSignal(pidfd.Int(), syscall.SIGKILL) // it may have ended
		_ = pidfd.Close()
	}
	close(e.settled)
	s.idle()
}

// end takes down how a process has ended. It runs on the poller's goroutine.
func (s *server) end(e *entry) {
	exit := Exit{At: time.Now()}
	if st, ended, err := e.child.Reap(); err == nil && ended {
		exit.Known, exit.Code, exit.Signal = true, st.Code, int(st.Signal)
	}
	s.mu.Lock()
	e.exit = exit
	s.living--
	switch {
	case s.entries[e.id] != e: // forgotten
	case e.doomed:
		s.strike(e)
	default:
		// Should the disk be full, agents still learn of it as long as we live.
		e.saved = s.exits.write(e.id, e.process, exit) == nil
	}
	_ = e.child.PIDFD.Close()
	close(e.ended)
	s.mu.Unlock()
	s.idle()
}

// find tells which process was launched by an id, and whether it lives.
func (s *server) find(ctx context.Context, id string, reply *message) error {
	s.mu.Lock()
	e := s.entries[id]
	s.mu.Unlock()
	if e == nil {
		return ErrUnknown
	}
	if !s.decided(ctx, e) { // an agent that has died may not have been noticed yet
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.doomed || s.entries[id] != e {
		return ErrUnknown
	}
	reply.Process = e.process
	return nil
}

// decided waits until somebody has taken the process, or nobody has and it is gone:
// so that nobody finds it in its group either. It is false if ctx ends first.
func (s *server) decided(ctx context.Context, e *entry) bool {
	select {
	case <-e.settled:
	case <-ctx.Done():
		return false
	}
	s.mu.Lock()
	doomed := e.doomed
	s.mu.Unlock()
	if !doomed {
		return true
	}
	select {
	case <-e.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// exit waits for the end of a process.
func (s *server) exit(ctx context.Context, id string, p Process) (Exit, error) {
	s.mu.Lock()
	e := s.entries[id]
	s.mu.Unlock()
	if e == nil {
		return Exit{}, ErrUnknown
	}
	select { // what it is, is known then
	case <-e.settled:
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
	if !e.process.same(p) {
		return Exit{}, ErrUnknown
	}
	select {
	case <-e.ended:
		return e.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// ack notes that an agent has written down how the process ended. Others may ask
// again.
func (s *server) ack(id string, p Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil || !isClosed(e.ended) || !e.process.same(p) {
		return ErrUnknown
	}
	e.acked = true
	return s.exits.remove(id)
}

// forget lets go of all that there is of an id. A process that lives is not ended.
func (s *server) forget(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.drop(id)
	ids := append(s.left[id], id)
	for _, e := range append(slices.Clone(s.further[id]), s.entries[id]) {
		if e != nil && isClosed(e.settled) {
			s.strike(e)
			ids = append(ids, e.id)
		}
	}
	delete(s.left, id)
	for _, id := range ids {
		err = errors.Join(err, s.exits.remove(id))
	}
	return err
}

// list is everything by id or, of one sandbox, its further processes as they were
// launched. For those it waits: an agent that has died may not have been noticed yet,
// and nobody is to find what that leaves behind in the group either.
func (s *server) list(ctx context.Context, sandbox string) []Entry {
	s.mu.Lock()
	further := slices.Clone(s.further[sandbox])
	s.mu.Unlock()
	for _, e := range further {
		if !s.decided(ctx, e) {
			return nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Entry, 0, len(s.entries))
	add := func(e *entry) {
		if !isClosed(e.settled) || e.doomed {
			return
		}
		told := Entry{ID: e.id, Process: e.process, Ended: isClosed(e.ended), Acked: e.acked}
		if told.Ended {
			told.Exit = e.exit
		}
		list = append(list, told)
	}
	if sandbox != "" {
		for _, e := range s.further[sandbox] {
			add(e)
		}
		return list
	}
	for _, e := range s.entries {
		add(e)
	}
	for id := range s.kept {
		if s.entries[id] == nil {
			list = append(list, Entry{ID: id})
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
