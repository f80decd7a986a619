// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/isolation/logs"
)

// logsIsolator keeps what the sandbox writes to its standard output and error. It
// is prepared before the group and cleaned up behind it, when nobody writes any
// more.
type logsIsolator struct {
	dir    string
	own    bool // it is in the state directory
	shared bool // other processes may have the same logs

	mu     sync.Mutex
	keeper *logs.Keeper // nil until somebody needs it
}

// written is one sandbox's log, with the workload's ends until it has been started.
type written struct {
	log            *logs.Log // nil if another process has it
	turn           *os.File  // by which no other process has it; nil on an exclusive host
	stdout, stderr *os.File
}

func newLogsIsolator(cfg Config) *logsIsolator {
	return &logsIsolator{dir: cmp.Or(cfg.Logs, filepath.Join(cfg.Root, "logs")), own: cfg.Logs == "", shared: cfg.Shared}
}

func (*logsIsolator) Name() string { return "logs" }

// open opens the keeper at the first need for it.
func (i *logsIsolator) open() (*logs.Keeper, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keeper != nil {
		return i.keeper, nil
	}
	k, err := logs.OpenKeeper(i.dir)
	i.keeper = k
	return k, err
}

// Prepare makes the log.
func (i *logsIsolator) Prepare(_ context.Context, c *Container) error {
	if c.Spec.Logs == nil {
		return nil
	}
	k, err := i.open()
	if err == nil {
		err = k.Remove(c.Spec.ID) // of an earlier sandbox whose agent died
	}
	if err != nil {
		return err
	}
	return i.hold(c, k)
}

func (i *logsIsolator) hold(c *Container, k *logs.Keeper) error {
	w := &written{}
	c.written = w
	var err error
	if i.shared {
		if w.turn, err = takeLog(filepath.Join(i.dir, c.Spec.ID)); err != nil || w.turn == nil {
			return err
		}
	}
	if w.log, err = k.Open(c.Spec.ID, *c.Spec.Logs); err != nil {
		return err
	}
	w.stdout, w.stderr, err = w.log.Files()
	return err
}

// takeLog sees to it that no other process opens the log in dir; nil if one has it
// open. The process that ends lets go of it.
func takeLog(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "state"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = nil
	}
	return nil, errors.Join(err, f.Close())
}

// Launch has the process write to the log, where the caller gave nothing else.
func (i *logsIsolator) Launch(c *Container, l *Launch) error {
	if c.written == nil {
		return nil
	}
	if c.written.log == nil {
		return &StateError{State: StateCreated, Reason: "another process keeps its log: start it there, or close that"}
	}
	l.Files = slices.Clone(l.Files)
	for len(l.Files) < 3 {
		l.Files = append(l.Files, nil)
	}
	for n, f := range []*os.File{c.written.stdout, c.written.stderr} {
		if l.Files[n+1] == nil {
			l.Files[n+1] = f
		}
	}
	return nil
}

// Started leaves the writing to the process.
func (i *logsIsolator) Started(_ context.Context, c *Container, _ int) error {
	if c.written == nil {
		return nil
	}
	return c.written.closeFiles()
}

// Recover goes on where an earlier process got to.
func (i *logsIsolator) Recover(_ context.Context, c *Container) error {
	if c.Spec.Logs == nil {
		return nil
	}
	k, err := i.open()
	if err != nil {
		return err
	}
	return i.hold(c, k)
}

// Cleanup removes the log.
func (i *logsIsolator) Cleanup(_ context.Context, c *Container) error {
	if c.Spec.Logs == nil {
		return nil
	}
	k, err := i.open()
	if err == nil {
		err = i.Release(c)
	}
	if err != nil {
		return err
	}
	return k.Remove(c.Spec.ID)
}

// Release lets go of the log; the workload can go on writing.
func (i *logsIsolator) Release(c *Container) error {
	w := c.written
	if w == nil {
		return nil
	}
	err := w.closeFiles()
	if w.log != nil {
		err = errors.Join(err, w.log.Close())
	}
	if w.turn != nil {
		err = errors.Join(err, w.turn.Close())
		w.turn = nil
	}
	return err
}

func (w *written) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{w.stdout, w.stderr} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	w.stdout, w.stderr = nil, nil
	return errors.Join(errs...)
}

// sweep removes the logs of no sandbox of ids, and says whose they were.
func (i *logsIsolator) sweep(ids []string) (removed []string, err error) {
	if _, err := os.Stat(i.dir); err != nil {
		return nil, nil //nolint:nilerr // there never was a log
	}
	k, err := i.open()
	if err != nil {
		return nil, err
	}
	names, err := k.Names()
	for _, name := range names {
		if slices.Contains(ids, name) {
			continue
		}
		if rerr := k.Remove(name); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		removed = append(removed, name)
	}
	return removed, err
}

// remove deletes the directory, which is empty, if it is ours.
func (i *logsIsolator) remove() error {
	if !i.own {
		return nil
	}
	err := os.Remove(i.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (i *logsIsolator) close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keeper == nil {
		return nil
	}
	return i.keeper.Close()
}

// Logs is the log of the sandbox: to read, to follow, and for its counters. nil if
// its spec has none, or another process of a
// shared state directory keeps it. It is the sandbox's: do not close it.
//
// A last line without an end is in it once [logs.Log.Finish] was called, which is to be
// done after [Sandbox.Wait]. The log goes with the sandbox: what is to outlive that is
// read before Destroy, by a [logs.Log.Lines] for example whose ctx ends behind Finish.
func (s *Sandbox) Logs() *logs.Log {
	if s.c.written == nil {
		return nil
	}
	return s.c.written.log
}

// LogDirectory is where the log of the sandbox is, whoever keeps it, for [logs.Read]
// and [logs.Follow]; empty if its spec has none.
func (s *Sandbox) LogDirectory() string {
	if s.c.written == nil {
		return ""
	}
	return filepath.Join(s.host.native.logs.dir, s.id)
}
