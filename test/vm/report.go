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
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// report is what one environment's machine did.
type report struct {
	env      environment
	tests    []testBinary
	log      string // the file with its whole console
	boot     time.Duration
	total    time.Duration
	seconds  map[string]int                 // by package, of all users
	runs     map[string]*tally              // by user
	failures []failure                      // the tests that failed
	flakes   []failure                      // those that passed when they ran again, alone
	only     map[string]map[string][]string // by user and package, the tests to run; nil for all
	wrongs   []string                       // what makes the environment fail, besides failed tests
	notes    []string                       // what does not
	silence  time.Duration                  // how long the tests may print nothing
	narrowed bool                           // not all tests of a package run
	last     string                         // the end of the last output that no result was made of
}

// tally counts the tests of one user.
type tally struct {
	passed, failed, skipped int
	classes                 map[string]int // of the skipped
	seconds                 int
	ended                   map[string]bool     // the packages whose binary ran to its end
	failures                map[string][]string // the tests that failed, without subtests, by package
	restarts                int                 // of the machine, when this user's turn was
}

// failure is a test that failed.
type failure struct {
	user, pkg, test string
	output          string // the end of it
}

func (f failure) String() string { return f.user + " " + f.pkg + "." + f.test }

func newReport(e environment, tests []testBinary, log string) *report {
	r := &report{env: e, tests: tests, log: log, silence: silentTests, seconds: make(map[string]int), runs: make(map[string]*tally)}
	for _, user := range users {
		r.runs[user] = &tally{
			classes: make(map[string]int), ended: make(map[string]bool), failures: make(map[string][]string),
		}
	}
	return r
}

func (r *report) wrong(format string, args ...any) {
	r.wrongs = append(r.wrongs, fmt.Sprintf(format, args...))
}

// read follows the console to its end or error, and reports whether init.sh
// came to its own. Lines with "@@" are from init.sh, and the others, between
// "begin" and "end", are a test binary's output. It passes each line to seen,
// with whether the machine is between its boot and its end.
func (r *report) read(ctx context.Context, console io.Reader, seen func(line string, testing bool)) (done bool, err error) {
	start := time.Now()
	var output bytes.Buffer
	var user, pkg string
	var up bool
	in := bufio.NewReader(console)
	for {
		var line string
		line, err = in.ReadString('\n')
		seen(line, up && !done)
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		word, rest, _ := strings.Cut(strings.TrimPrefix(line, "@@ "), " ")
		switch {
		case !strings.HasPrefix(line, "@@ "):
			output.WriteString(line + "\n")
		case word == "up":
			r.boot, up = time.Since(start), true
		case word == "error":
			r.wrong("init: %s", rest)
		case word == "begin":
			user, pkg, _ = strings.Cut(rest, " ")
			pkg = strings.ReplaceAll(pkg, "+", "/")
			output.Reset()
		case word == "end":
			var status, seconds int
			if _, err := fmt.Sscan(rest, &status, &seconds); err != nil {
				r.wrong("line %q: %v", line, err)
			}
			t := r.runs[user]
			r.seconds[pkg] += seconds
			t.seconds += seconds
			t.ended[pkg] = true
			if ran, failed := r.count(ctx, user, pkg, output.Bytes(), true); status != 0 && failed == 0 {
				r.wrong("%s %s exited with %d:\n%s", user, pkg, status, tail(output.String(), 60))
			} else if ran == 0 && !r.narrowed {
				r.wrong("%s %s ran no test", user, pkg)
			}
			output.Reset()
			user, pkg = "", ""
		case word == "done":
			done = true
		}
		if err != nil {
			break
		}
	}
	if user != "" {
		r.count(ctx, user, pkg, output.Bytes(), false)
		if bytes.Contains(output.Bytes(), []byte("panic: test timed out after ")) {
			r.wrong("%s %s ran out of time:\n%s", user, pkg, tail(output.String(), 60))
			r.runs[user].ended[pkg] = true
		}
	}
	r.last = tail(output.String(), 40)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return done, err
}

// event is one line of go tool test2json.
type event struct{ Action, Test, Output string }

// test2json finds the program once: go tool would look for it each time.
var test2json = sync.OnceValues(func() (string, error) {
	path, err := exec.Command("go", "tool", "-n", "test2json").Output()
	return strings.TrimSpace(string(path)), err
})

var skipReason = regexp.MustCompile(`skip\(([^)\s]+)\): `)

// count adds the results of one test binary. One that did not end will run
// again, so that only its failures count.
func (r *report) count(ctx context.Context, user, pkg string, output []byte, ended bool) (ran, failed int) {
	t := r.runs[user]
	var stream []byte
	program, err := test2json()
	if err == nil {
		cmd := exec.CommandContext(ctx, program)
		cmd.Stdin = bytes.NewReader(output)
		stream, err = cmd.Output()
	}
	if err != nil {
		r.wrong("test2json: %v", err)
		return 0, 0
	}
	texts := make(map[string]string)
	parents := make(map[string]bool) // of subtests
	blamed := make(map[string]bool)  // parents of failed subtests
	for dec := json.NewDecoder(bytes.NewReader(stream)); dec.More(); {
		var e event
		if err := dec.Decode(&e); err != nil {
			r.wrong("test2json: %v", err)
			return 0, 0
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
			if ran++; ended && !parents[e.Test] {
				t.passed++
			}
		case "fail":
			ran++
			failed++
			if !strings.Contains(e.Test, "/") {
				t.failures[pkg] = append(t.failures[pkg], e.Test)
			}
			for i, c := range e.Test {
				if c == '/' {
					blamed[e.Test[:i]] = true
				}
			}
			if blamed[e.Test] {
				continue // for a subtest that was counted
			}
			t.failed++
			r.failures = append(r.failures, failure{user, pkg, e.Test, tail(texts[e.Test], 40)})
		case "skip":
			if ran++; !ended {
				continue
			}
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
	return ran, failed
}

// tail returns the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
