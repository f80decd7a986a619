// SPDX-License-Identifier: Apache-2.0

package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/compact"
)

// maxSize bounds what is read back: a log is a few kilobytes, and a file that
// is larger is not one of ours.
const maxSize = 16 << 20

// ErrCorrupt is matched by errors about a log whose lines make no sense.
var ErrCorrupt = errors.New("corrupt state")

// CorruptError says which log is corrupt, where and why. It matches
// [ErrCorrupt].
type CorruptError struct {
	Path string
	Line int // counted from 1; 0 for the file as a whole
	Err  error
}

// Error reads "corrupt state: /run/x/web-1.state, line 3: ...".
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: %s, line %d: %v", ErrCorrupt, e.Path, e.Line, e.Err)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap gives the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// suffix marks our files, so that a stranger in the directory is left alone.
const suffix = ".state"

// Dir is a directory of logs.
type Dir struct{ path string }

// Open makes the directory if need be, readable by its owner only.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return &Dir{path: path}, nil
}

// Path is where the log called name is.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name+suffix) }

// Names lists the logs, sorted.
func (d *Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && e.Type().IsRegular() {
			names = append(names, name)
		}
	}
	return names, nil
}

// Log is one open log. It is not safe for concurrent use.
type Log struct {
	f *os.File
}

// Create makes the log called name with its first line. It fails with an error
// that wraps [fs.ErrExist] if there is one already, whoever made it, so that of
// two creators exactly one wins.
func (d *Dir) Create(name string, first any) (*Log, error) {
	line, err := encode(first)
	if err != nil {
		return nil, err
	}
	f, err := openFile(d.Path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND|syscall.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	l := &Log{f: f}
	if _, err := f.Write(line); err != nil {
		return nil, errors.Join(err, l.Remove())
	}
	return l, nil
}

// openFile is [os.OpenFile] for files that never block: it does not ask the
// kernel to poll them, which takes as many calls as all the rest.
func openFile(path string, flag int) (*os.File, error) {
	for {
		fd, err := syscall.Open(path, flag|syscall.O_CLOEXEC, 0o600)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), path), nil
		case syscall.EINTR:
		default:
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// Load opens the log called name and gives its whole lines to each, in order.
// An error of each, or a line that is not JSON, ends in a [CorruptError]; the
// log is then returned as well, so that it can be removed.
func (d *Dir) Load(name string, each func(line []byte) error) (*Log, error) {
	f, err := os.OpenFile(d.Path(name), os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	l := &Log{f: f}
	corrupt := func(n int, err error) (*Log, error) {
		return l, &CorruptError{Path: f.Name(), Line: n, Err: err}
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSize {
		return corrupt(0, fmt.Errorf("%s of %d bytes is no log", info.Mode().Type(), info.Size()))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	if len(whole) == 0 {
		return corrupt(1, io.ErrUnexpectedEOF)
	}
	// A torn last line would run into the next one appended.
	if len(whole) < len(data) {
		if err := f.Truncate(int64(len(whole))); err != nil {
			return corrupt(0, err)
		}
	}
	n := 0
	for line := range bytes.Lines(whole) {
		n++
		if !json.Valid(line) {
			return corrupt(n, errors.New("not JSON"))
		}
		if err := each(line); err != nil {
			return corrupt(n, err)
		}
	}
	return l, nil
}

// Append adds v as one line. If it fails, the log is as before.
func (l *Log) Append(v any) error {
	line, err := encode(v)
	if err != nil {
		return err
	}
	n, err := l.f.Write(line)
	if err == nil {
		return nil
	}
	if n > 0 {
		if end, serr := l.f.Seek(0, io.SeekEnd); serr == nil {
			err = errors.Join(err, l.f.Truncate(end-int64(n)))
		}
	}
	return err
}

// Remove deletes the file and closes the log. A file that is gone is nil.
func (l *Log) Remove() error {
	err := os.Remove(l.f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.Close())
}

// Close frees the descriptor; the file stays. Closing twice is nil.
func (l *Log) Close() error {
	if err := l.f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

func encode(v any) ([]byte, error) {
	line, err := compact.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(line, '\n'), nil
}
