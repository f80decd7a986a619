// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
)

const packed = ".gz" // ends the name of a file that was compressed

// logFile is one of a log's numbered files.
type logFile struct {
	name         string
	number       int
	size         int64
	packed, half bool
}

// listFiles lists the numbered files in dir, the oldest first.
func listFiles(dir string) ([]logFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []logFile
	for _, e := range entries {
		f, ok := parseFile(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f.size = info.Size()
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b logFile) int { return cmp.Compare(a.number, b.number) })
	return all, nil
}

// parseFile reads the name of a numbered file.
func parseFile(name string) (f logFile, ok bool) {
	f.name = name
	base, half := strings.CutSuffix(name, ".half")
	base, f.packed = strings.CutSuffix(base, packed)
	base, ok = strings.CutSuffix(base, ".log")
	number, err := strconv.Atoi(base)
	if !ok || err != nil || number < 1 {
		return logFile{}, false
	}
	f.number, f.half = number, half
	return f, true
}

// checkName wants a single path element that is no surprise.
func checkName(name string) error {
	ok := name != "" && len(name) <= 200 && name[0] != '.' && name[0] != '-'
	for _, c := range name {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("._-", c))
	}
	if !ok {
		return &feature.InvalidError{Field: "log", Value: strconv.Quote(name[:min(len(name), 80)]), Reason: "not letters, digits, '.', '_' and '-', a letter or digit first"}
	}
	return nil
}

// Read goes through the lines of the log in dir, the oldest first, as they are
// when it is called. It may run beside the process that keeps the log, and beside
// its rotation: files that are removed meanwhile are left out.
func Read(dir string, f Format) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := &reader{dir: dir, format: f}
		if _, err := r.catchUp(yield); err != nil {
			yield(Line{}, err)
		}
	}
}

// lookAgain is how often Follow looks for lines.
const lookAgain = 200 * time.Millisecond

// Follow is Read that goes on to the lines that come, until ctx ends. It looks for
// them five times a second, and once more when ctx has ended: so who ends it after
// [Log.Finish] gets every line. If the log is removed meanwhile, the error matches
// [os.ErrNotExist].
func Follow(ctx context.Context, dir string, f Format) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := &reader{dir: dir, format: f}
		ticker := time.NewTicker(lookAgain)
		defer ticker.Stop()
		for {
			ended := ctx.Err() != nil
			if more, err := r.catchUp(yield); err != nil {
				yield(Line{}, err)
				return
			} else if !more || ended {
				return
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}
}

// reader remembers how far it got.
type reader struct {
	dir    string
	format Format
	number int   // of the file that it is in; 0: none yet
	at     int64 // bytes of it that were read
}

var errStopped = errors.New("the consumer has enough")

// catchUp yields all lines that count now.
func (r *reader) catchUp(yield func(Line, error) bool) (more bool, err error) {
	f, err := os.Open(filepath.Join(r.dir, stateName))
	if err != nil {
		return false, err
	}
	s, err := readState(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	first, err := r.first(s.File)
	if err != nil {
		return false, err
	}
	// A file that is being packed has one of its two names at any time, but may
	// have neither in a listing.
	for n := first; n <= s.File; n++ {
		if n > r.number {
			r.number, r.at = n, 0
		}
		end := int64(-1)
		if n == s.File {
			end = s.Size
		}
		err := r.file(logFile{name: fileName(n)}, end, yield)
		if errors.Is(err, fs.ErrNotExist) {
			err = r.file(logFile{name: fileName(n) + packed, packed: true}, end, yield)
		}
		switch {
		case errors.Is(err, errStopped):
			return false, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist): // removed for want of room
			return false, err
		}
	}
	return true, nil
}

// first is the number of the file to go on with, at most last.
func (r *reader) first(last int) (int, error) {
	if r.number > 0 {
		return r.number, nil
	}
	all, err := listFiles(r.dir)
	if err != nil {
		return 0, err
	}
	for _, f := range all {
		if !f.half {
			last = min(last, f.number)
		}
	}
	for ; last > 1; last-- {
		_, err := os.Lstat(filepath.Join(r.dir, fileName(last-1)+packed))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	return last, nil
}

func fileName(number int) string { return fmt.Sprintf("%08d.log", number) }

// file yields the lines of one file from where the reader is up to end.
func (r *reader) file(f logFile, end int64, yield func(Line, error) bool) (err error) {
	file, err := os.Open(filepath.Join(r.dir, f.name))
	if err != nil {
		return err
	}
	defer file.Close()
	var in io.Reader = file
	if f.packed {
		if in, err = gzip.NewReader(file); err != nil {
			return err
		}
	}
	if end >= 0 {
		in = io.LimitReader(in, end)
	}
	if _, err := io.CopyN(io.Discard, in, r.at); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		r.at += int64(len(text))
		line, err := r.format.Parse(bytes.TrimSuffix(text, []byte("\n")))
		if !yield(line, err) {
			return errStopped
		}
	}
}
