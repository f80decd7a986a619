// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/internal/feature"
)

// Keeper has the logs of one agent open: it hears of what is written to any of
// them through one inotify instance. It is safe for concurrent use.
type Keeper struct {
	root   string
	notify *os.File
	done   chan struct{}

	mu     sync.Mutex
	closed bool
	logs   map[string]*Log
	watch  map[int32]*Log
}

// OpenKeeper opens the directory of logs at root, and makes it if it is missing.
// Logs in it are opened one by one by [Keeper.Open].
func OpenKeeper(root string) (*Keeper, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	k := &Keeper{
		root: root, notify: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{}),
		logs: make(map[string]*Log), watch: make(map[int32]*Log),
	}
	go k.listen()
	return k, nil
}

// listen wakes the logs that were written to.
func (k *Keeper) listen() {
	defer close(k.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := k.notify.Read(buf)
		if err != nil {
			return // closed
		}
		k.mu.Lock()
		for b := buf[:n]; len(b) >= syscall.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b))
			mask := binary.NativeEndian.Uint32(b[4:])
			b = b[syscall.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])):]
			if mask&syscall.IN_Q_OVERFLOW != 0 {
				for _, l := range k.logs {
					l.poke()
				}
			} else if l := k.watch[wd]; l != nil {
				l.poke()
			}
		}
		k.mu.Unlock()
	}
}

// Open opens the log called name, a directory below the root, and makes it if it
// is missing. A log that an earlier process had open goes on where that one got
// to. A log is opened by one process, once.
func (k *Keeper) Open(name string, c Config) (*Log, error) {
	if err := errors.Join(checkName(name), c.Validate()); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, os.ErrClosed
	}
	if k.logs[name] != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(k.root, name), Err: os.ErrExist}
	}
	l, err := openLog(k, name, c.filled())
	if err != nil {
		return nil, err
	}
	for s := range l.streams {
		wd, err := syscall.InotifyAddWatch(k.fd(), l.path(Stream(s).String()), syscall.IN_MODIFY)
		if err != nil {
			l.forget()
			return nil, errors.Join(os.NewSyscallError("inotify_add_watch", err), l.closePipes(), l.closeFiles())
		}
		l.watches = append(l.watches, int32(wd))
		k.watch[int32(wd)] = l
	}
	k.logs[name] = l
	for s, p := range l.pipes {
		if p != nil {
			l.pumping.Add(1)
			go l.pump(Stream(s))
		}
	}
	go l.run()
	l.poke() // what was written before
	return l, nil
}

// fd is the inotify instance's. The caller holds mu, and the keeper is open.
func (k *Keeper) fd() (fd int) {
	if c, err := k.notify.SyscallConn(); err == nil {
		_ = c.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// Remove deletes the log called name with all its files. It is closed first if it
// is open. A log that is not there is nil; a directory with something else in it is
// [ErrInvalid].
func (k *Keeper) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	k.mu.Lock()
	l := k.logs[name]
	k.mu.Unlock()
	if l != nil {
		if err := l.Close(); err != nil {
			return err
		}
	}
	dir := filepath.Join(k.root, name)
	files, ours, err := contents(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !ours {
		return &feature.InvalidError{Field: "log", Value: dir, Reason: "something else than a log is in this directory"}
	}
	for _, file := range files {
		if err := removeIfThere(filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}

// contents lists a directory, and reports whether only a log's files are in it.
func contents(dir string) (files []string, ours bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, false, err
	}
	ours = true
	for _, e := range entries {
		name := e.Name()
		_, numbered := parseFile(name)
		if e.Type() == fs.ModeNamedPipe {
			ours = ours && (name == pipeName(Stdout) || name == pipeName(Stderr))
		} else {
			ours = ours && e.Type().IsRegular() &&
				(numbered || name == stateName || name == Stdout.String() || name == Stderr.String())
		}
		files = append(files, name)
	}
	return files, ours, nil
}

// Names lists the logs that there are, open or not. Directories with anything else
// in them, or nothing, are not listed.
func (k *Keeper) Names() ([]string, error) {
	entries, err := os.ReadDir(k.root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() || checkName(e.Name()) != nil {
			continue
		}
		files, ours, err := contents(filepath.Join(k.root, e.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if ours && len(files) > 0 {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Close closes all logs. What is written from now on is found by the next keeper.
// Closing twice is nil.
func (k *Keeper) Close() error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	var all []*Log
	for _, l := range k.logs {
		all = append(all, l)
	}
	k.mu.Unlock()
	var errs []error
	for _, l := range all {
		errs = append(errs, l.Close())
	}
	errs = append(errs, k.notify.Close())
	<-k.done
	return errors.Join(errs...)
}

// forget takes the log off the keeper's lists. The caller holds k.mu.
func (l *Log) forget() {
	for _, wd := range l.watches {
		delete(l.keeper.watch, wd)
		_, _ = syscall.InotifyRmWatch(l.keeper.fd(), uint32(wd)) // gone with the file
	}
	l.watches = nil
	delete(l.keeper.logs, l.name)
}

// punch gives the space of a part of a file back; the file keeps its size. File
// systems that cannot keep it.
func punch(f *os.File, from, to int64) error {
	const keepSize, punchHole = 1, 2
	err := syscall.Fallocate(int(f.Fd()), keepSize|punchHole, from, to-from)
	if err == syscall.EOPNOTSUPP {
		return nil
	}
	return os.NewSyscallError("fallocate", err)
}
