// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"fmt"
	"time"
)

// Stream is one of the two that a workload writes to.
type Stream uint8

// The streams.
const (
	Stdout Stream = iota
	Stderr
)

// String is "stdout" or "stderr", which are also the files' names.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// Line is one line of a log, or a part of a long one.
type Line struct {
	Time    time.Time // when it was taken over; zero in the format Raw
	Stream  Stream    // Stdout in the format Raw
	Partial bool      // the next line of the stream goes on with it
	Text    []byte    // without the line feed
}

// longest is how much of a line is written as one: as container runtimes do.
const longest = 16 << 10

// cut takes the first line of text: at most longest bytes of it. n is how many
// bytes it was, 0 if its end is not there yet.
func cut(text []byte, last bool) (line []byte, partial bool, n int) {
	end := bytes.IndexByte(text[:min(len(text), longest+1)], '\n')
	switch {
	case end >= 0:
		return text[:end], false, end + 1
	case len(text) > longest:
		return text[:longest], true, longest
	case last:
		return text, false, len(text)
	}
	return nil, false, 0
}

// append writes the line behind b.
func (f Format) append(b []byte, l Line) []byte {
	if f == CRI {
		b = l.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z07:00")
		b = append(b, ' ')
		b = append(b, l.Stream.String()...)
		tag := " F "
		if l.Partial {
			tag = " P "
		}
		b = append(b, tag...)
	}
	b = append(b, l.Text...)
	if f == Raw && l.Partial {
		return b
	}
	return append(b, '\n')
}

// Parse reads one line of the format, without its line feed.
func (f Format) Parse(text []byte) (l Line, err error) {
	if f == Raw {
		return Line{Text: text}, nil
	}
	bad := func(what string) (Line, error) { return Line{}, fmt.Errorf("log line %.80q: %s", text, what) }
	stamp, rest, ok := bytes.Cut(text, []byte(" "))
	if !ok {
		return bad("no stream")
	}
	if l.Time, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil {
		return bad("no time")
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	switch {
	case ok && string(stream) == "stdout":
	case ok && string(stream) == "stderr":
		l.Stream = Stderr
	default:
		return bad("no stream")
	}
	tag, rest, ok := bytes.Cut(rest, []byte(" "))
	switch {
	case ok && string(tag) == "F":
	case ok && string(tag) == "P":
		l.Partial = true
	default:
		return bad("no tag")
	}
	l.Text = rest
	return l, nil
}
