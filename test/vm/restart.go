// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long a machine may print nothing until it counts as hung: an emulated one
// boots and powers off in seconds, and init.sh gives each test binary, which
// names its tests as they begin, 240 seconds to end by itself.
const (
	silentBoot  = time.Minute
	silentTests = 4*time.Minute + 30*time.Second
)

// maxRestarts is how often an environment's machine is started again.
const maxRestarts = 2

var errSilent = errors.New("printed nothing for too long")

// run boots the environment's machine and, where the machine itself fails,
// boots it again for the test binaries that had not ended. That is for the
// faults of an emulator: it hangs, or its program dies. A test that failed, a
// binary that died or ran out of time, and a kernel that panicked stay
// failures, and no test that failed runs again here.
func (r *report) run(ctx context.Context, verbose bool, boot func(context.Context, map[string]string, io.Writer) error) {
	start := time.Now()
	defer func() { r.total = time.Since(start) }()
	if err := os.MkdirAll(filepath.Dir(r.log), 0o755); err != nil {
		r.wrong("%v", err)
	}
	_ = os.Remove(r.log) // another run may still be writing to its own
	log, err := os.Create(r.log)
	if err != nil {
		r.wrong("%v", err)
	}
	defer log.Close()
	print := func(line string) {
		fmt.Fprint(log, line)
		if verbose {
			fmt.Printf("%s: %s", r.env.name(), line)
		}
	}

	for restarts := 0; ; restarts++ {
		todo, next := r.todo()
		done, err := r.attempt(ctx, print, func(ctx context.Context, console io.Writer) error {
			return boot(ctx, todo, console)
		})
		switch {
		case done && (err == nil || errors.Is(err, errSilent)):
			return
		case done:
			r.wrong("qemu: %v", err)
			return
		case ctx.Err() != nil:
			r.wrong("%v; last output:\n%s", context.Cause(ctx), r.last)
			return
		case err == nil:
			r.wrong("the machine did not come to its end; last output:\n%s", r.last)
			return
		case restarts == maxRestarts:
			r.wrong("the machine failed %d times: %v; last output:\n%s", restarts+1, err, r.last)
			return
		}
		if _, now := r.todo(); now != "" {
			next = now
		}
		r.runs[next].restarts++
		r.notes = append(r.notes, fmt.Sprintf("started again: %v; last output:\n%s", err, tail(r.last, 5)))
	}
}

// silenceOf is silentTests, or more where the environment of the tests gives a
// binary more time.
func silenceOf(env string) time.Duration {
	for field := range strings.FieldsSeq(env) {
		if value, ok := strings.CutPrefix(field, "TEST_TIMEOUT="); ok {
			if d, err := time.ParseDuration(value); err == nil {
				return max(silentTests, d+30*time.Second)
			}
		}
	}
	return silentTests
}

// attempt reads one boot, and ends it when it falls silent.
func (r *report) attempt(
	ctx context.Context, print func(string), boot func(context.Context, io.Writer) error,
) (done bool, err error) {
	power, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(silentBoot, func() { cancel(errSilent) })
	defer silence.Stop()

	console, w := io.Pipe()
	go func() {
		err := boot(power, w)
		if power.Err() != nil {
			err = context.Cause(power)
		}
		_ = w.CloseWithError(err) // nil ends the stream
	}()
	return r.read(context.WithoutCancel(ctx), console, func(line string, testing bool) {
		print(line)
		if testing {
			silence.Reset(r.silence)
		} else {
			silence.Reset(silentBoot)
		}
	})
}

// todo lists the test binaries that have not ended, by user, each with the flag
// that names the tests to run or, of those that failed already, not to run. The
// first user who has any is next.
func (r *report) todo() (lists map[string]string, next string) {
	lists = make(map[string]string)
	for _, user := range users {
		t := r.runs[user]
		for _, b := range r.tests {
			if t.ended[b.pkg] {
				continue
			}
			lists[user] += b.name()
			switch failed := t.failures[b.pkg]; {
			case r.only[user] != nil:
				lists[user] += " -test.run=" + pattern(r.only[user][b.pkg])
			case len(failed) > 0:
				lists[user] += " -test.skip=" + pattern(failed)
			}
			lists[user] += "\n"
			if next == "" {
				next = user
			}
		}
	}
	return lists, next
}

// pattern matches these tests, whole.
func pattern(tests []string) string { return "^(" + strings.Join(tests, "|") + ")$" }
