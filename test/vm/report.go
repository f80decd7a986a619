// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// report is what one environment's machine did.
type report struct {
	env     environment
	tests   []testBinary
	log     string // the file with its whole console
	boot    time.Duration
	total   time.Duration
	seconds map[string]int    // by package, of all users
	runs    map[string]*tally // by user
	wrongs  []string          // what makes the environment fail, besides failed tests
}

// tally counts the tests of one user.
type tally struct {
	passed, failed, skipped int
	classes                 map[string]int // of the skipped
	seconds                 int
	ended                   int // binaries that ran to their end
}

func newReport(e environment, tests []testBinary, log string) *report {
	r := &report{env: e, tests: tests, log: log, seconds: make(map[string]int), runs: make(map[string]*tally)}
	for user := range asUser {
		r.runs[user] = &tally{classes: make(map[string]int)}
	}
	return r
}

func (r *report) wrong(format string, args ...any) {
	r.wrongs = append(r.wrongs, fmt.Sprintf(format, args...))
}

// read follows the console, whose lines with "@@" are from init.sh and whose
// other lines, between "begin" and "end", are a test binary's output.
func (r *report) read(ctx context.Context, console io.Reader, verbose bool) {
	start := time.Now()
	if err := os.MkdirAll(filepath.Dir(r.log), 0o755); err != nil {
		r.wrong("%v", err)
	}
	_ = os.Remove(r.log) // another run may still be writing to its own
	log, err := os.Create(r.log)
	if err != nil {
		r.wrong("%v", err)
	}
	defer log.Close()

	var output bytes.Buffer
	var user, pkg string
	done := false
	in := bufio.NewReader(console)
	for {
		line, err := in.ReadString('\n')
		fmt.Fprint(log, line)
		if verbose {
			fmt.Printf("%s: %s", r.env.name(), line)
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		word, rest, _ := strings.Cut(strings.TrimPrefix(line, "@@ "), " ")
		switch {
		case !strings.HasPrefix(line, "@@ "):
			output.WriteString(line + "\n")
		case word == "up":
			r.boot = time.Since(start)
		case word == "error":
			r.wrong("init: %s", rest)
		case word == "begin":
			user, pkg, _ = strings.Cut(rest, " ")
			output.Reset()
		case word == "end":
			var status, seconds int
			if _, err := fmt.Sscan(rest, &status, &seconds); err != nil {
				r.wrong("line %q: %v", line, err)
			}
			pkg = strings.ReplaceAll(pkg, "+", "/")
			r.seconds[pkg] += seconds
			r.runs[user].seconds += seconds
			r.runs[user].ended++
			r.count(ctx, user, pkg, status, output.Bytes())
			user, pkg = "", ""
		case word == "done":
			done = true
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.wrong("qemu: %v", err)
			}
			break
		}
	}
	r.total = time.Since(start)
	if !done {
		r.wrong("the machine did not come to its end; last output:\n%s", tail(output.String(), 40))
	}
}

// event is one line of go tool test2json.
type event struct{ Action, Test, Output string }

var skipReason = regexp.MustCompile(`skip\(([^)\s]+)\): `)

// count adds the results of one test binary.
func (r *report) count(ctx context.Context, user, pkg string, status int, output []byte) {
	t := r.runs[user]
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json")
	cmd.Stdin = bytes.NewReader(output)
	stream, err := cmd.Output()
	if err != nil {
		r.wrong("test2json: %v", err)
		return
	}
	texts := make(map[string]string)
	parents := make(map[string]bool) // of subtests
	blamed := make(map[string]bool)  // parents of failed subtests
	ran, failed := 0, 0
	for dec := json.NewDecoder(bytes.NewReader(stream)); dec.More(); {
		var e event
		if err := dec.Decode(&e); err != nil {
			r.wrong("test2json: %v", err)
			return
		}
		if e.Test == "" {
			continue
		}
		where := fmt.Sprintf("%s %s.%s", user, pkg, e.Test)
		switch e.Action {
		case "run":
			if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
				parents[e.Test[:i]] = true
			}
		case "output":
			texts[e.Test] += e.Output
		case "pass":
			if ran++; !parents[e.Test] {
				t.passed++
			}
		case "fail":
			ran++
			failed++
			for i, c := range e.Test {
				if c == '/' {
					blamed[e.Test[:i]] = true
				}
			}
			if blamed[e.Test] {
				continue // for a subtest that was counted
			}
			t.failed++
			r.wrong("%s failed:\n%s", where, tail(texts[e.Test], 40))
		case "skip":
			ran++
			t.skipped++
			m := skipReason.FindStringSubmatch(texts[e.Test])
			switch {
			case m == nil:
				r.wrong("%s: the skip has no typed reason:\n%s", where, texts[e.Test])
			case !known(m[1]):
				r.wrong("%s: skipped for %q, which the matrix does not know", where, m[1])
			case slices.Contains(r.env.offers(user), m[1]):
				r.wrong("%s: skipped for %q, which this environment has", where, m[1])
			default:
				t.classes[m[1]]++
			}
		}
	}
	switch {
	case status != 0 && failed == 0:
		r.wrong("%s %s exited with %d:\n%s", user, pkg, status, tail(string(output), 60))
	case ran == 0:
		r.wrong("%s %s ran no test", user, pkg)
	}
}

// tail returns the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
