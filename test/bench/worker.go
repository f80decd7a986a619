// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Every contestant is a long-lived process that makes one cycle for each line
// it reads, "1" for one with a user namespace and "0" for one without, and
// answers with a line of nanoseconds: the whole and, if it can tell, create,
// start, wait and destroy. What it costs to start the contestant itself, and to
// talk to it, is not in the figures.

// serve is a worker's side. It ends when its input does.
func serve(cycle func(userns bool) ([]time.Duration, error)) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		times, err := cycle(in.Text() == "1")
		if err != nil {
			fmt.Printf("error: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		words := make([]string, len(times))
		for i, t := range times {
			words[i] = strconv.FormatInt(t.Nanoseconds(), 10)
		}
		fmt.Println(strings.Join(words, " "))
	}
	return in.Err()
}

// worker is the driver's side.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

func startWorker(cmd *exec.Cmd) (*worker, error) {
	w := &worker{cmd: cmd}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.in, w.out = in, bufio.NewReader(out)
	cmd.Stderr = &w.stderr
	return w, cmd.Start()
}

// cycle has the worker do one.
func (w *worker) cycle(userns bool) ([]time.Duration, error) {
	request := "0\n"
	if userns {
		request = "1\n"
	}
	if _, err := io.WriteString(w.in, request); err != nil {
		return nil, fmt.Errorf("%w: %s", err, w.said())
	}
	line, err := w.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, w.said())
	}
	if msg, failed := strings.CutPrefix(line, "error: "); failed {
		return nil, errors.New(strings.TrimSpace(msg))
	}
	var times []time.Duration
	for word := range strings.FieldsSeq(line) {
		ns, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("answer %q: %w", line, err)
		}
		times = append(times, time.Duration(ns))
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("empty answer: %s", w.said())
	}
	return times, nil
}

// said is the end of what the worker wrote to stderr.
func (w *worker) said() string {
	s := strings.TrimSpace(w.stderr.String())
	return s[max(0, len(s)-300):]
}

// stop ends the worker, which cleans up after itself.
func (w *worker) stop() error {
	_ = w.in.Close() // the worker may have gone first
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, w.said())
	}
	return nil
}
