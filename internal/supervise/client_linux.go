// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
)

// Client is an agent's way to the supervisor of a directory. It is safe for
// concurrent use: each request has a connection of its own while it lasts.
type Client struct {
	dir     string
	oom     int
	version int // of the supervisor

	mu     sync.Mutex
	anchor *conn   // says that we are here: without anybody the supervisor ends
	free   []*conn // for the next requests
	pid    int
	pidfd  *sys.FD // the supervisor, as long as it is not known to have ended
	closed bool
}

// maxFree is how many connections are kept for later.
const maxFree = 4

// NewClient is a client of the supervisor in dir, whether or not there is one.
func NewClient(dir string) *Client { return &Client{dir: dir, oom: ownOOMScore(), version: Version} }

// Connect finds the supervisor and stays connected, so that it does not end for
// lack of work. It returns its process, whose pidfd stays the client's.
//
// Errors are [ErrNone], or say that it does not answer.
func (c *Client) Connect(ctx context.Context) (pid int, pidfd *sys.FD, err error) {
	c.mu.Lock()
	if c.anchor != nil && !c.anchor.hungUp() {
		defer c.mu.Unlock()
		return c.pid, c.pidfd, nil
	}
	err = c.hangUp() // all of it is of one that has ended
	c.mu.Unlock()
	if err != nil {
		return 0, nil, err
	}
	conn, reply, err := c.askOn(ctx, &message{Op: opHello, FD: -1})
	switch {
	case errors.Is(err, ErrGone): // it was about to, and nothing was asked of it
		return 0, nil, ErrNone
	case conn == nil:
		return 0, nil, err
	case err != nil:
		return 0, nil, errors.Join(err, conn.close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.anchor != nil { // or another call was faster
		closeAll([]int{reply.FD})
		err = conn.close()
		if c.closed {
			err = errors.Join(os.ErrClosed, err)
		}
		return c.pid, c.pidfd, err
	}
	c.anchor, c.pid, c.pidfd = conn, reply.Process.PID, sys.NewFD(reply.FD)
	return c.pid, c.pidfd, nil
}

// hangUp closes what leads to the supervisor. The caller holds mu.
func (c *Client) hangUp() error {
	var errs []error
	for _, conn := range c.free {
		errs = append(errs, conn.close())
	}
	if c.anchor != nil {
		errs = append(errs, c.anchor.close())
	}
	errs = append(errs, c.pidfd.Close())
	c.anchor, c.free, c.pid, c.pidfd = nil, nil, 0, nil
	return errors.Join(errs...)
}

// Close hangs up. The supervisor goes on as long as it has something to do.
// Closing twice is nil.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.hangUp()
}

// take is a connection that is free, or a new one.
func (c *Client) take() (*conn, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, os.ErrClosed
	}
	for last := len(c.free) - 1; last >= 0; last-- {
		conn := c.free[last]
		c.free = c.free[:last]
		if !conn.hungUp() {
			c.mu.Unlock()
			return conn, nil
		}
		_ = conn.close()
	}
	c.mu.Unlock()
	return dial(c.dir, c.version)
}

// put keeps a connection for later.
func (c *Client) put(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.free) >= maxFree {
		_ = conn.close()
		return
	}
	c.free = append(c.free, conn)
}

// ask sends one request and waits for the reply, whose descriptors are the
// caller's.
func (c *Client) ask(ctx context.Context, m *message) (*message, error) {
	conn, reply, err := c.askOn(ctx, m)
	if conn != nil {
		c.put(conn)
	}
	return reply, err
}

// askOn is ask that leaves the connection to the caller; nil if it is of no use any
// more.
func (c *Client) askOn(ctx context.Context, m *message) (*conn, *message, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, context.Cause(ctx)
	}
	conn, err := c.take()
	if errors.Is(err, ErrNone) {
		c.mourn(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	stop := conn.until(ctx)
	reply, err := conn.roundTrip(m)
	switch {
	case !stop() && err == nil:
		closeAll(append(reply.Files, reply.FD))
		err = os.ErrDeadlineExceeded
	case err == nil && reply.Failure == nil:
		return conn, reply, nil
	case err == nil: // and no descriptors
		return conn, nil, reply.Failure.error()
	}
	_ = conn.close()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = silent(c.dir, ctx)
	case errors.Is(err, ErrGone), errors.Is(err, ErrNone):
		c.mourn(ctx)
	}
	return nil, nil, err
}

// mourn waits until the supervisor, which has hung up, has hung up on everybody: so
// that who asks next finds none, and not the rest of this one.
func (c *Client) mourn(ctx context.Context) {
	c.mu.Lock()
	var pidfd *sys.FD
	var err error
	if c.pidfd != nil {
		pidfd, err = c.pidfd.Dup()
	}
	c.mu.Unlock()
	if pidfd == nil || err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = waitEnd(ctx, pidfd) // one that lives has refused a connection, perhaps
	_ = pidfd.Close()
}

// roundTrip gives [ErrGone] if the other end closes while it is being asked, and
// [ErrNone] if it was closed before.
func (c *conn) roundTrip(m *message) (*message, error) {
	if err := c.send(m); err != nil {
		return nil, err
	}
	reply, fds, err := c.receive()
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		err = ErrGone
	}
	if err == nil && reply.Op != opReply {
		closeAll(fds)
		err = errors.New("the supervisor gave no reply")
	}
	return reply, err
}

// Launch starts a process as a child of the supervisor. birth is a network namespace
// that it is to be born in, or -1. The pidfd is the caller's.
//
// An error other than [ErrLost] means that the program has not run and will not;
// [ErrNone], that another supervisor may be asked. A child of one that has ended may
// be on its way to the program all the same, or wait for ever for its id maps.
func (c *Client) Launch(ctx context.Context, id string, spec *launch.Spec, birth int) (child *launch.Child, p Process, err error) {
	ticket, err := newTicket()
	if err != nil {
		return nil, p, err
	}
	defer ticket.Close()
	m, sent := &message{Op: opLaunch, ID: id, FD: birth, OOM: c.oom}, *spec
	sent.Ticket = &launch.File{FD: ticket.Int(), Path: "ticket"}
	if m.Spec, m.Files, err = sent.Marshal(); err != nil {
		return nil, p, &Refusal{err}
	}
	conn, reply, err := c.askOn(ctx, m)
	if conn == nil {
		return nil, p, takeBack(ticket, err)
	}
	if err != nil {
		c.put(conn)
		return nil, p, err
	}
	// Until it hears of this, the process is not ours. If the supervisor has ended
	// meanwhile, that is as if it had done so a moment later.
	switch err := conn.send(&message{Op: opTaken, ID: id, FD: -1}); {
	case err == nil:
		c.put(conn)
	case errors.Is(err, ErrNone):
		_ = conn.close()
	default:
		closeAll([]int{reply.FD})
		return nil, p, errors.Join(ErrLost, err, conn.close())
	}
	child = &launch.Child{PID: reply.Process.PID, PIDFD: sys.NewFD(reply.FD)}
	for i := range reply.Degraded {
		child.Degraded = append(child.Degraded, reply.Degraded[i].error())
	}
	return child, reply.Process, nil
}

// Find tells which process was launched by id, or [ErrUnknown].
func (c *Client) Find(ctx context.Context, id string) (Process, error) {
	reply, err := c.ask(ctx, &message{Op: opFind, ID: id, FD: -1})
	if err != nil {
		return Process{}, err
	}
	return reply.Process, nil
}

// Exit waits for the end of a process. It is [ErrUnknown] if neither the supervisor
// nor the disk tells of it.
func (c *Client) Exit(ctx context.Context, id string, p Process) (Exit, error) {
	reply, err := c.ask(ctx, &message{Op: opExit, ID: id, Process: p, FD: -1})
	switch {
	case err == nil:
		return reply.Exit, nil
	case ctx.Err() != nil:
		return Exit{}, err
	}
	exits, oerr := openExits(c.dir)
	if oerr != nil {
		return Exit{}, errors.Join(err, oerr)
	}
	exit, rerr := exits.read(id, p)
	if rerr != nil && c.others() {
		exit, rerr = exits.await(ctx, id, p)
	}
	if rerr != nil {
		return Exit{}, errors.Join(rerr, err)
	}
	return exit, nil
}

// others reports whether a supervisor of another version is there: then what this
// one does not know is that one's, and will be on disk in a moment.
func (c *Client) others() bool {
	names, err := os.ReadDir(c.dir)
	for _, n := range names {
		version, ok := socketVersion(n.Name())
		if !ok || version == c.version {
			continue
		}
		if conn, derr := dial(c.dir, version); derr == nil {
			_ = conn.close()
			return true
		}
	}
	return err != nil
}

// Ack says that it is written down how the process has ended.
func (c *Client) Ack(ctx context.Context, id string, p Process) error {
	_, err := c.ask(ctx, &message{Op: opAck, ID: id, Process: p, FD: -1})
	return c.orOnDisk(err, func(e *exits) error { return e.remove(id) })
}

// Forget says that there is no such id any more, nor further processes of it.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := c.ask(ctx, &message{Op: opForget, ID: id, FD: -1})
	return c.orOnDisk(err, func(e *exits) error {
		further, err := e.further()
		for _, id := range append(further[id], id) {
			err = errors.Join(err, e.remove(id))
		}
		return err
	})
}

// orOnDisk does itself what is to be done on disk, where the supervisor could not.
func (c *Client) orOnDisk(err error, do func(*exits) error) error {
	if !errors.Is(err, ErrNone) && !errors.Is(err, ErrGone) && !errors.Is(err, ErrUnknown) {
		return err
	}
	exits, err := openExits(c.dir)
	if err != nil {
		return err
	}
	return do(exits)
}

// Keep leaves copies of descriptors with the supervisor, in the place of those that
// it has by that name. None at all are the end of it.
func (c *Client) Keep(ctx context.Context, id, name string, files []int) error {
	_, err := c.ask(ctx, &message{Op: opKeep, ID: id, Name: name, Files: files, FD: -1})
	return err
}

// Kept gives copies of what is kept by that name, which may be nothing.
func (c *Client) Kept(ctx context.Context, id, name string) ([]int, error) {
	reply, err := c.ask(ctx, &message{Op: opKept, ID: id, Name: name, FD: -1})
	if err != nil {
		return nil, err
	}
	return reply.Files, nil
}

// List is all that there is, in the supervisor and on disk. How those ended that are
// on disk alone is not told.
func (c *Client) List(ctx context.Context) ([]Entry, error) { return c.list(ctx, "") }

// Further are the further processes of a sandbox, in the supervisor and on disk.
func (c *Client) Further(ctx context.Context, sandbox string) ([]Entry, error) {
	return c.list(ctx, sandbox)
}

func (c *Client) list(ctx context.Context, sandbox string) ([]Entry, error) {
	reply, err := c.ask(ctx, &message{Op: opList, ID: sandbox, FD: -1})
	var list []Entry
	switch {
	case err == nil:
		list = reply.Entries
	case !errors.Is(err, ErrNone) && !errors.Is(err, ErrGone):
		return nil, err
	}
	exits, err := openExits(c.dir)
	if err != nil {
		return nil, err
	}
	names, err := exits.dir.Names()
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(list))
	for _, e := range list {
		known[e.ID] = true
	}
	var earlier []Entry // of a supervisor that has ended
	for _, id := range names {
		e := Entry{ID: id, Ended: true}
		if owner, name := Owner(id); sandbox != "" {
			if owner != sandbox || name == "" {
				continue
			}
			if e.Process, e.Exit, err = exits.load(id); err != nil {
				continue // of another boot, or of nobody's making
			}
		}
		if !known[id] {
			earlier = append(earlier, e)
		}
	}
	return append(earlier, list...), nil
}

// Remove takes the directory away once the supervisor has ended, which it does when
// it has nothing to do and this client, the last one, has hung up. After an error
// the client goes on.
func (c *Client) Remove(ctx context.Context) (err error) {
	c.mu.Lock()
	pid, pidfd := c.pid, c.pidfd
	c.pidfd, c.closed = nil, true // requests under way hang up when they have a reply
	err = c.hangUp()
	c.mu.Unlock()
	defer func() {
		if err != nil {
			c.mu.Lock()
			c.closed = false
			c.mu.Unlock()
		}
	}()
	if pidfd != nil && err == nil {
		if err = waitEnd(ctx, pidfd); err != nil {
			err = fmt.Errorf("waiting for the supervisor, process %d, to end: %w", pid, err)
		} else {
			_, _, _ = (&launch.Child{PIDFD: pidfd}).Reap() // if it is ours
		}
		err = errors.Join(err, pidfd.Close())
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if _, ok := socketVersion(e.Name()); ok {
			err = errors.Join(err, os.Remove(c.dir+"/"+e.Name()))
		}
	}
	if rerr := os.Remove(c.dir); rerr != nil && !errors.Is(rerr, syscall.ENOTEMPTY) {
		err = errors.Join(err, rerr)
	}
	return err
}

// waitEnd waits for the end of a process, whoever's child it is.
func waitEnd(ctx context.Context, pidfd *sys.FD) error {
	copied, err := pidfd.Dup()
	if err != nil {
		return err
	}
	fd, err := copied.Take()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime polls it
		return errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	c, err := newConn(fd)
	if err != nil {
		return err
	}
	defer c.close()
	defer c.until(ctx)()
	err = c.raw.Read(func(fd uintptr) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return err
}
