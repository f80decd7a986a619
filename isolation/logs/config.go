// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"cmp"
	"errors"
	"strconv"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
)

// ErrInvalid is matched by errors about values that were refused before anything
// was touched.
var ErrInvalid = feature.ErrInvalid

// Config is how a log is kept. The zero Config is a working one.
type Config struct {
	// Format is how lines are written.
	Format Format `json:"format,omitzero"`

	// MaxSize is when the next file is begun, in bytes; 0 is 16 MiB. A file is
	// larger only if it has one line.
	MaxSize int64 `json:"maxSize,omitzero"`

	// MaxAge is how long after its first line a file gets no more; 0 is for ever.
	// It is looked at when a line comes.
	MaxAge time.Duration `json:"maxAge,omitzero"`

	// MaxTotal bounds all files together, in bytes: the oldest are removed. 0 is
	// ten times MaxSize. The file that is written is always kept.
	MaxTotal int64 `json:"maxTotal,omitzero"`

	// Compress has files that get no more lines compressed by gzip.
	Compress bool `json:"compress,omitzero"`

	// Rate is how many bytes of lines are taken a second, on average over some
	// seconds; what is more is dropped, line by line, and counted. 0 is all.
	Rate int64 `json:"rate,omitzero"`

	// Backlog is how far a workload may be ahead, in bytes of each of its two
	// files; 0 is 64 MiB. Beyond that the older half is dropped and counted.
	Backlog int64 `json:"backlog,omitzero"`

	// Block has the workload wait in write(2) rather than lose a line: once it is
	// Backlog and a pipe, of 64 KiB mostly, ahead, as long as the disk is full, and
	// while nobody keeps the log. It then writes to a pipe, and what is still in
	// that is lost if the workload ends before somebody keeps the log again, unless
	// another process has the pipe open: a host's supervisor does.
	Block bool `json:"block,omitzero"`
}

// Format is how lines are written.
type Format uint8

// The formats.
const (
	// CRI is the Container Runtime Interface's: the time, the stream, P or F for
	// a part of a line or the last of it, and the text.
	CRI Format = iota
	// Raw is the text alone.
	Raw
)

// String is "cri" or "raw".
func (f Format) String() string {
	switch f {
	case CRI:
		return "cri"
	case Raw:
		return "raw"
	}
	return "format(" + strconv.Itoa(int(f)) + ")"
}

// MarshalText is [Format.String].
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what [Format.String] writes.
func (f *Format) UnmarshalText(text []byte) error {
	for _, known := range []Format{CRI, Raw} {
		if string(text) == known.String() {
			*f = known
			return nil
		}
	}
	return &feature.InvalidError{Field: "format", Value: strconv.Quote(string(text[:min(len(text), 80)])), Reason: `not "cri" or "raw"`}
}

// Validate reports everything that is wrong with c. The error matches
// [ErrInvalid].
func (c Config) Validate() error {
	var errs []error
	bad := func(field, value, reason string) {
		errs = append(errs, &feature.InvalidError{Field: field, Value: value, Reason: reason})
	}
	if c.Format > Raw {
		bad("format", c.Format.String(), "no such format")
	}
	for _, f := range []struct {
		name string
		n    int64
	}{{"maxSize", c.MaxSize}, {"maxAge", int64(c.MaxAge)}, {"maxTotal", c.MaxTotal}, {"rate", c.Rate}, {"backlog", c.Backlog}} {
		if f.n < 0 {
			bad(f.name, strconv.FormatInt(f.n, 10), "negative")
		}
	}
	if c.Block && c.Rate > 0 {
		bad("rate", strconv.FormatInt(c.Rate, 10), "it drops lines, which a workload that blocks is not to lose")
	}
	return errors.Join(errs...)
}

func (c Config) filled() Config {
	c.MaxSize = cmp.Or(c.MaxSize, 16<<20)
	c.MaxTotal = cmp.Or(c.MaxTotal, 10*c.MaxSize)
	c.Backlog = cmp.Or(c.Backlog, 64<<20)
	return c
}
