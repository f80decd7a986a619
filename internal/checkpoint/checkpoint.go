// SPDX-License-Identifier: Apache-2.0

package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/compact"
	"github.com/caisson-run/caisson/internal/sys"
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
type Dir struct {
	path string

	// Shared says that other processes write to the logs too, and may put others in
	// their places. It is set before the first log is opened.
	Shared bool
}

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
	path string
	fd   *sys.FD // not an os.File: whose making and closing takes longer than the writing
	size int64   // as far as this process knows

	shared  bool // see Dir
	renewal bool // there may be what a crash in Replace has left
}

// Create makes the log called name with its first line. It fails with an error
// that wraps [os.ErrExist] if there is one already, whoever made it, so that of
// two creators exactly one wins.
func (d *Dir) Create(name string, first any) (*Log, error) {
	line, err := encode(first)
	if err != nil {
		return nil, err
	}
	l, err := d.open(name, syscall.O_CREAT|syscall.O_EXCL)
	if err != nil {
		return nil, err
	}
	l.renewal = d.Shared // whoever removed the one before has removed that too
	if _, err := l.write(line); err != nil {
		return nil, errors.Join(err, l.Remove())
	}
	return l, nil
}

func (d *Dir) open(name string, flag int) (*Log, error) {
	path := d.Path(name)
	for {
		fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_APPEND|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|flag, 0o600)
		switch err {
		case nil:
			return &Log{path: path, fd: sys.NewFD(fd), shared: d.Shared, renewal: true}, nil
		case syscall.EINTR:
		default:
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// write writes all of b, or says how much.
func (l *Log) write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := syscall.Write(l.fd.Int(), b[n:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return n, &os.PathError{Op: "write", Path: l.path, Err: err}
		default:
			n += m
			l.size += int64(m)
		}
	}
	return n, nil
}

// Load opens the log called name and gives its whole lines to each, in order.
// An error of each, or a line that is not JSON, ends in a [CorruptError]; the
// log is then returned as well, so that it can be removed.
func (d *Dir) Load(name string, each func(line []byte) error) (*Log, error) {
	l, err := d.open(name, syscall.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	corrupt := func(n int, err error) (*Log, error) {
		return l, &CorruptError{Path: l.path, Line: n, Err: err}
	}
	data, err := l.read()
	switch {
	case errors.Is(err, errNoLog):
		return corrupt(0, err)
	case err != nil:
		return nil, errors.Join(err, l.Close())
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	if len(whole) == 0 {
		return corrupt(1, io.ErrUnexpectedEOF)
	}
	// A torn last line would run into the next one appended.
	if len(whole) < len(data) {
		if err := syscall.Ftruncate(l.fd.Int(), int64(len(whole))); err != nil {
			return corrupt(0, err)
		}
	}
	l.size = int64(len(whole))
	n := 0
	for line := range bytes.Lines(whole) {
		n++
		line, ok := unseal(line)
		switch {
		case !ok:
			return corrupt(n, errors.New("its checksum is another"))
		case !json.Valid(line):
			return corrupt(n, errors.New("not JSON"))
		}
		if err := each(line); err != nil {
			return corrupt(n, err)
		}
	}
	return l, nil
}

var errNoLog = errors.New("this is no log")

// read is the whole file; errNoLog if it is not one of ours.
func (l *Log) read() ([]byte, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(l.fd.Int(), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: l.path, Err: err}
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Size > maxSize {
		return nil, fmt.Errorf("%w: type %#o, %d bytes", errNoLog, st.Mode&syscall.S_IFMT, st.Size)
	}
	data := make([]byte, 0, st.Size+1)
	for len(data) <= maxSize {
		data = slices.Grow(data, 1)
		n, err := syscall.Pread(l.fd.Int(), data[len(data):cap(data)], int64(len(data)))
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: l.path, Err: err}
		case n == 0:
			return data, nil
		default:
			data = data[:len(data)+n]
		}
	}
	return nil, fmt.Errorf("%w: more than %d bytes", errNoLog, maxSize)
}

// Append adds v as one line. If it fails, the log is as before.
func (l *Log) Append(v any) error {
	line, err := encode(v)
	if err != nil {
		return err
	}
	n, err := l.write(line)
	var st syscall.Stat_t
	if err == nil {
		if l.shared && syscall.Fstat(l.fd.Int(), &st) == nil && st.Nlink == 0 {
			return l.again(line)
		}
		return nil
	}
	l.size -= int64(n)
	if n > 0 {
		if serr := syscall.Fstat(l.fd.Int(), &st); serr == nil {
			err = errors.Join(err, syscall.Ftruncate(l.fd.Int(), st.Size-int64(n)))
		}
	}
	return err
}

// again adds a line to the log that another process has put in the place of this
// one. A log that was removed stays so.
func (l *Log) again(line []byte) error {
	name := strings.TrimSuffix(filepath.Base(l.path), suffix)
	now, err := (&Dir{path: filepath.Dir(l.path)}).open(name, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = now.write(line)
		err = errors.Join(err, now.Close())
	}
	return err
}

// Size is how many bytes the log has, as far as this process knows.
func (l *Log) Size() int64 { return l.size }

// Replace makes v the only line, at once: who reads meanwhile, and whoever comes
// after a crash, finds either all the old lines or the new one. If it fails, the log
// is as before. Lines that other processes add meanwhile are kept; two must not
// replace at the same time.
func (l *Log) Replace(v any) (err error) {
	line, err := encode(v)
	if err != nil {
		return err
	}
	path := l.path + renewed
	l.renewal = true
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_APPEND|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_CREAT|syscall.O_TRUNC, 0o600)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	next := &Log{path: path, fd: sys.NewFD(fd)}
	if _, err = next.write(line); err == nil {
		err = os.Rename(path, l.path)
	}
	if err != nil {
		return errors.Join(err, next.Remove())
	}
	old := &Log{path: l.path, fd: l.fd}
	known := l.size
	l.fd, l.size = next.fd, next.size
	// Who writes to the old one from now on sees that it has no name any more.
	data, err := old.read()
	if err == nil && int64(len(data)) > known {
		_, err = l.write(data[known : bytes.LastIndexByte(data, '\n')+1])
	}
	return errors.Join(err, old.Close())
}

// renewed ends the name of a log that is about to replace another.
const renewed = ".new"

// Remove deletes the file, with what a crash in Replace has left, and closes the
// log. A file that is gone is nil.
func (l *Log) Remove() error {
	var errs []error
	paths := []string{l.path + renewed, l.path} // a crash in between leaves one whose name is known
	if !l.renewal {
		paths = paths[1:]
	}
	for _, path := range paths {
		if err := syscall.Unlink(path); err != nil && err != syscall.ENOENT {
			errs = append(errs, &os.PathError{Op: "remove", Path: path, Err: err})
		}
	}
	return errors.Join(append(errs, l.Close())...)
}

// Close frees the descriptor; the file stays. Closing twice is nil.
func (l *Log) Close() error { return l.fd.Close() }

func encode(v any) ([]byte, error) {
	line, err := compact.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(seal(line), '\n'), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal adds a checksum to a line of JSON.
func seal(line []byte) []byte {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(line, castagnoli))
	return hex.AppendEncode(append(line, ' '), sum)
}

// unseal takes the checksum off a line again, and reports whether it is right. A
// line without one, which somebody has written by hand, is taken as it is.
func unseal(line []byte) (text []byte, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	at := len(line) - 9
	if at < 1 || line[at] != ' ' || line[at-1] == ' ' {
		return line, true
	}
	sum, err := strconv.ParseUint(string(line[at+1:]), 16, 32)
	if err != nil {
		return line, true // and no JSON, if this was one
	}
	return line[:at], uint32(sum) == crc32.Checksum(line[:at], castagnoli)
}
