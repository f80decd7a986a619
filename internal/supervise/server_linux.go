// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/poll"
	"github.com/caisson-run/caisson/internal/sys"
)

// The descriptors and the variable that a supervisor is started with.
const (
	listenerFD = 3
	variable   = "CAISSON_SUPERVISOR" // the directory
)

// patience is how long a supervisor without work waits for its first agent.
const patience = 10 * time.Second

// maxConns is how many agents, and requests of theirs, there may be at a time.
const maxConns = 1024

// server is a supervisor at work.
type server struct {
	dir    string
	exits  *exits
	poller *poll.Poller
	socket uint64 // inode of the name that agents find it by
	oom    int    // its own oom_score_adj
	quit   context.CancelFunc

	stubs struct {
		sync.Mutex
		stub *launch.Stub
	}

	mu      sync.Mutex
	conns   int
	living  int // children that have not ended
	entries map[string]*entry
	further map[string][]*entry // by sandbox, its further processes as they were launched
	left    map[string][]string // by sandbox, further ids on disk of an earlier supervisor
	kept    map[string]map[string][]*sys.FD
	total   int // descriptors in kept
	most    int // of them
}

// Inherited takes the descriptor and the directory that the library starts a
// supervisor with.
func Inherited() (listener *os.File, dir string, err error) {
	dir = os.Getenv(variable)
	kind, err := unix.GetsockoptInt(listenerFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if dir == "" || err != nil || kind != unix.SOCK_SEQPACKET {
		return nil, "", errors.New("this program is started by the library, when a host whose Config names it as its Supervisor starts a sandbox")
	}
	unix.CloseOnExec(listenerFD)
	return os.NewFile(listenerFD, "listener"), dir, nil
}

// Serve is a supervisor: it returns nil once it has no child, holds nothing and no
// agent is connected, or when ctx ends. It takes ownership of the listener, a
// seqpacket socket that does not block.
func Serve(ctx context.Context, listener *os.File, dir string) (err error) {
	defer listener.Close()
	s := &server{
		dir: dir, entries: make(map[string]*entry), further: make(map[string][]*entry), kept: make(map[string]map[string][]*sys.FD),
	}
	if s.exits, err = openExits(dir); err != nil {
		return err
	}
	if s.left, err = s.exits.further(); err != nil {
		return err
	}
	if s.poller, err = poll.New(nil); err != nil {
		return err
	}
	defer s.poller.Close()
	s.socket = socketInode(dir)
	s.oom = lowerOOMScore()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	s.most = int(min(limit.Cur, 1<<20) / 2)
	ctx, s.quit = context.WithCancel(ctx)
	defer s.quit()

	first := time.AfterFunc(patience, s.idle) // the agent may have died
	defer first.Stop()
	var running sync.WaitGroup
	running.Go(func() {
		for s.poller.Wait() == nil {
		}
		s.quit()
	})
	stop := context.AfterFunc(ctx, func() {
		_ = listener.SetDeadline(time.Unix(1, 0))
		_ = s.poller.Close()
	})
	defer stop()
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		s.accept(ctx, raw, &running)
	}
	running.Wait()
	return s.free()
}

// accept takes the next connection.
func (s *server) accept(ctx context.Context, raw interface {
	Read(func(uintptr) bool) error
}, running *sync.WaitGroup) {
	fd, err := -1, error(nil)
	rerr := raw.Read(func(listener uintptr) bool {
		fd, _, err = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	switch {
	case rerr != nil:
		s.quit() // the deadline, or there is no listener any more
		return
	case err != nil: // there is no room for it now
		timer := time.NewTimer(10 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return
	}
	c, err := newConn(fd)
	if err != nil {
		return
	}
	if cred, err := c.peer(); err != nil || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() || !s.enterConn() {
		_ = c.close()
		return
	}
	running.Go(func() {
		defer s.leaveConn()
		s.serve(ctx, c)
	})
}

func (s *server) enterConn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == maxConns {
		return false
	}
	s.conns++
	return true
}

func (s *server) leaveConn() {
	s.mu.Lock()
	s.conns--
	s.mu.Unlock()
	s.idle()
}

// request is a message with all descriptors that came along.
type request struct {
	*message
	fds []int
}

// serve answers one connection until it is closed.
func (s *server) serve(ctx context.Context, c *conn) {
	ctx, hangUp := context.WithCancel(ctx)
	defer c.close()
	stop := c.until(ctx) // the end of the server, or of the reader
	defer stop()
	requests := make(chan request)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(requests)
		defer hangUp()
		for {
			m, fds, err := c.receive()
			if err != nil {
				return
			}
			select {
			case requests <- request{m, fds}:
			case <-ctx.Done():
				closeAll(fds)
				return
			}
		}
	}()
	var untaken *entry
	for r := range requests {
		if untaken != nil { // whoever asks for more has read the reply
			s.take(untaken)
			untaken = nil
		}
		if r.Op == opTaken {
			closeAll(r.fds)
			continue
		}
		reply, done := s.answer(ctx, c, r, &untaken)
		err := c.send(reply)
		done()
		if err != nil {
			hangUp()
			break
		}
	}
	if untaken != nil {
		s.discard(untaken)
	}
	hangUp()
	for r := range requests {
		closeAll(r.fds)
	}
	<-done
}

// answer does what is asked. done frees what the reply has in it.
func (s *server) answer(ctx context.Context, c *conn, r request, untaken **entry) (reply *message, done func()) {
	reply, done = &message{Op: opReply, FD: -1}, func() {}
	defer closeAll(r.fds)
	var err error
	if r.Op != opHello && r.Op != opList && !validID(r.ID) {
		err = &Refusal{fmt.Errorf("%q is no id: %w", clip(r.ID), unix.EINVAL)}
		reply.Failure = failed(err)
		return reply, done
	}
	switch r.Op {
	case opHello:
		var self *sys.FD
		if self, err = sys.PidfdOpen(os.Getpid()); err == nil {
			reply.Process.PID, reply.FD = os.Getpid(), self.Int()
			done = func() { _ = self.Close() }
		}
	case opLaunch:
		var e *entry
		if e, done, err = s.launch(ctx, c, r.message, reply); err == nil {
			*untaken = e
		}
	case opFind:
		err = s.find(ctx, r.ID, reply)
	case opExit:
		reply.Exit, err = s.exit(ctx, r.ID, r.Process)
	case opAck:
		err = s.ack(r.ID, r.Process)
	case opForget:
		err = s.forget(r.ID)
	case opKeep:
		err = s.keep(r.message)
	case opKept:
		done, err = s.giveBack(r.message, reply)
	case opList:
		reply.Entries = s.list(ctx, r.ID)
	default:
		err = &Refusal{fmt.Errorf("request %d: %w", r.Op, unix.EINVAL)}
	}
	if err != nil {
		reply.Failure = failed(err)
	}
	return reply, done
}

// idle ends the server if there is nothing that it is for.
func (s *server) idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns > 0 || s.living > 0 {
		return
	}
	// Whoever has taken its name away will not come back for what it holds. What
	// has ended is on disk, and how a further process did stays there.
	if s.socket != 0 && s.socket == socketInode(s.dir) {
		if len(s.kept) > 0 {
			return
		}
		for _, e := range s.entries {
			if _, name := Owner(e.id); !e.acked && (name == "" || !e.saved) {
				return
			}
		}
	}
	s.quit()
}

// free lets go of everything when the server ends.
func (s *server) free() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for id := range s.kept {
		errs = append(errs, s.drop(id))
	}
	for _, e := range s.entries {
		errs = append(errs, e.child.PIDFD.Close())
	}
	return errors.Join(append(errs, s.stubs.stub.Close())...)
}

// stub makes the stub at the first need for it.
func (s *server) stub() (*launch.Stub, error) {
	s.stubs.Lock()
	defer s.stubs.Unlock()
	var err error
	if s.stubs.stub == nil {
		s.stubs.stub, err = launch.NewStub()
	}
	return s.stubs.stub, err
}

// socketName is what agents of this version find their supervisor by.
func socketName(version int) string { return "socket." + strconv.Itoa(version) }

// socketInode tells whether the name is still this server's; 0 if there is none.
func socketInode(dir string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(filepath.Join(dir, socketName(Version)), &st) != nil {
		return 0
	}
	return st.Ino
}

const oomScore = "/proc/self/oom_score_adj"

// ownOOMScore is this process's oom_score_adj.
func ownOOMScore() int {
	text, err := os.ReadFile(oomScore)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// lowerOOMScore has the kernel kill others before the supervisor, where it may be
// told that. It returns what its children would inherit.
func lowerOOMScore() int {
	_ = os.WriteFile(oomScore, []byte("-900"), 0) // takes CAP_SYS_RESOURCE
	return ownOOMScore()
}

// clip keeps hostile values from flooding messages.
func clip(s string) string { return s[:min(len(s), 80)] }
