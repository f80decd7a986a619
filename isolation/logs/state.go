// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

const stateName = "state"

// stateSize is that of the state's file: less than a page, so that no kill can
// leave half of it.
const stateSize = 512

// state is how far a log got.
type state struct {
	File  int      `json:"file"`  // number of the one that is written
	Size  int64    `json:"size"`  // its bytes that count
	Begun int64    `json:"begun"` // when its first line came, in nanoseconds; 0: none yet
	At    [2]int64 `json:"at"`    // how much of each stream was taken over

	Stats
}

// Stats are counted over the life of a log.
type Stats struct {
	Lines        uint64 `json:"lines"`
	Bytes        uint64 `json:"bytes"`        // of lines, with their line feeds
	DroppedLines uint64 `json:"droppedLines"` // above the rate
	DroppedBytes uint64 `json:"droppedBytes"` // above the rate, and beyond the backlog
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s state) encode() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b = fmt.Appendf(b, " %08x", crc32.Checksum(b, castagnoli))
	if len(b) >= stateSize {
		return nil, fmt.Errorf("state of %d bytes", len(b))
	}
	return append(append(b, bytes.Repeat([]byte(" "), stateSize-1-len(b))...), '\n'), nil
}

var errState = errors.New("the state of the log makes no sense")

func decodeState(b []byte) (s state, err error) {
	text, sum, _ := bytes.Cut(bytes.TrimRight(b, " \n"), []byte("} "))
	text = append(bytes.Clone(text), '}')
	if fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) != string(sum) {
		return state{}, errState
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, fmt.Errorf("%w: %w", errState, err)
	}
	if s.File < 1 || s.Size < 0 || s.At[0] < 0 || s.At[1] < 0 {
		return state{}, errState
	}
	return s, nil
}

// readState is that of an open file; the zero state of an empty one.
func readState(f *os.File) (s state, err error) {
	b := make([]byte, stateSize)
	// Read beside a write, it may be half of two; the next read is not.
	for range 10 {
		n, rerr := f.ReadAt(b, 0)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return s, rerr
		}
		if n == 0 {
			return state{File: 1}, nil
		}
		if s, err = decodeState(b[:n]); err == nil {
			return s, nil
		}
	}
	return s, fmt.Errorf("%s: %w", f.Name(), err)
}
