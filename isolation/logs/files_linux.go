// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"syscall"
)

// begin opens the file that the state is about, and cuts off what does not count.
func (l *Log) begin() (err error) {
	l.out, err = os.OpenFile(l.path(fileName(l.state.File)), openFlags, 0o600)
	if err != nil {
		return err
	}
	return l.out.Truncate(l.state.Size)
}

// rotate begins the next file. Only that is saved here: what next tells of
// besides is not written yet.
func (l *Log) rotate(next *state) error {
	number := next.File + 1
	out, err := os.OpenFile(l.path(fileName(number)), openFlags|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	empty := l.state
	empty.File, empty.Size, empty.Begun = number, 0, 0
	next.File, next.Size, next.Begun = number, 0, 0
	if err := l.save(empty); err != nil {
		return errors.Join(err, out.Close())
	}
	old := l.out
	l.out = out
	if err := old.Close(); err != nil {
		return err
	}
	l.pack(number - 1)
	return l.bound()
}

// tidy removes what a crash has left, and packs what should be.
func (l *Log) tidy() error {
	all, err := listFiles(l.path(""))
	if err != nil {
		return err
	}
	for _, f := range all {
		switch {
		case f.number > l.state.File, f.half:
			err = os.Remove(l.path(f.name))
		case f.packed: // the original is still there if the crash came before its end
			err = removeIfThere(l.path(fileName(f.number)))
		}
		if err != nil {
			return err
		}
	}
	for _, f := range all {
		if f.number < l.state.File && !f.packed && !f.half {
			l.pack(f.number)
		}
	}
	return nil
}

// pack compresses a file that gets no more lines, beside other work.
func (l *Log) pack(number int) {
	if !l.cfg.Compress {
		return
	}
	l.packing.Go(func() {
		// Without room it stays as it is, and is tried again by the next Open.
		path := l.path(fileName(number))
		if err := compress(path); err != nil {
			_ = removeIfThere(path + packed + ".half")
		}
	})
}

func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	half := path + packed + ".half"
	out, err := os.OpenFile(half, openFlags|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(half, path+packed); err != nil {
		return err
	}
	return os.Remove(path)
}

// bound removes the oldest files until the rest is small enough.
func (l *Log) bound() error {
	all, err := listFiles(l.path(""))
	if err != nil {
		return err
	}
	room := l.cfg.MaxTotal - l.cfg.MaxSize
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].number >= l.state.File || all[i].half {
			continue
		}
		if room -= all[i].size; room < 0 {
			if err := removeIfThere(l.path(all[i].name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeIfThere(path string) error {
	err := syscall.Unlink(path)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}
