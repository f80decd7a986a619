// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Lines reads the log in dir, of a workload that writes the numbers from 0 on, one
// a line. kept is how many lines of the log follow each other from 0, in all its
// files in the CRI's format; one that is missing, doubled or torn is an error.
// written is how many the workload has written, as far as its own file tells.
func Lines(dir string) (kept, written int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	files := make(map[int]string)
	for _, e := range entries {
		name, packed := strings.CutSuffix(e.Name(), ".gz")
		n, err := strconv.Atoi(strings.TrimSuffix(name, ".log"))
		if err == nil && (files[n] == "" || !packed) { // packed besides is not whole yet, or the same
			files[n] = e.Name()
		}
	}
	numbers := make([]int, 0, len(files))
	for n := range files {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if err := lines(filepath.Join(dir, files[n]), &kept); err != nil {
			return kept, 0, err
		}
	}
	written, err = lastLine(filepath.Join(dir, "stdout"))
	return kept, written, err
}

// lines goes on counting from *next.
func lines(path string, next *int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for r := bufio.NewReader(in); ; {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return nil
		}
		words := strings.Fields(line) // the time, the stream, F, and the text
		if err != nil || len(words) != 4 || words[1] != "stdout" || words[2] != "F" || words[3] != strconv.Itoa(*next) {
			return fmt.Errorf("%s: line %q, where number %d is due: %w", path, line, *next, err)
		}
		*next++
	}
}

// lastLine is one more than the number in the last whole line of a file that may
// have a hole at its beginning.
func lastLine(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	tail := make([]byte, min(info.Size(), 4096))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	whole := bytes.TrimRight(tail[:bytes.LastIndexByte(tail, '\n')+1], "\n")
	last := whole[bytes.LastIndexAny(whole, "\n\x00")+1:]
	if len(last) == 0 {
		return 0, nil
	}
	n, err := strconv.Atoi(string(last))
	return n + 1, err
}
