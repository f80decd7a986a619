// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Record is one line of a trace: a snapshot, and what was decided from it.
type Record struct {
	Snapshot  *Snapshot  `json:"snapshot"`
	Decisions []Decision `json:"decisions,omitempty"`
}

// WriteRecord appends r to a trace: one line of JSON.
func WriteRecord(w io.Writer, r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// maxRecord bounds a line, so that a file that is no trace is an error and not
// all of the memory.
const maxRecord = 64 << 20

// ReadTrace reads the records of a trace, in order. The sequence ends at the
// first line that is none, with an error that says which; a last line that is
// cut off, as a crash leaves it, ends it quietly.
func ReadTrace(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		in := bufio.NewReader(r)
		for n := 1; ; n++ {
			line, err := readLine(in)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(Record{}, fmt.Errorf("trace line %d: %w", n, err))
				}
				return
			}
			rec, err := parseRecord(line)
			if err != nil {
				yield(Record{}, fmt.Errorf("trace line %d: %q is no record: %w", n, clip(line), err))
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

func parseRecord(line []byte) (Record, error) {
	var rec Record
	if err := json.Unmarshal(line, &rec); err != nil {
		return Record{}, err
	}
	if rec.Snapshot == nil {
		return Record{}, errors.New("no snapshot")
	}
	return rec, nil
}

// readLine is the next whole line; what is cut off at the end is io.EOF.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxRecord:
			return nil, fmt.Errorf("longer than %d bytes", maxRecord)
		}
	}
}

// Replay gives each snapshot of a trace to the policies of p, as fast as it can,
// and yields what they want done. With the policies and the settings that made
// the trace, the corrections are those of the live run.
//
// Other policies see what happened, not what would have happened with them.
func Replay(trace iter.Seq2[Record, error], p *Planner) iter.Seq2[Replayed, error] {
	return func(yield func(Replayed, error) bool) {
		for rec, err := range trace {
			if err != nil {
				yield(Replayed{}, err)
				return
			}
			if !yield(Replayed{Record: rec, Planned: p.Plan(rec.Snapshot)}, nil) {
				return
			}
		}
	}
}

// Replayed is one record of a trace and what a replay decides in its place.
type Replayed struct {
	Record
	Planned []Planned
}
