// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// loadCommand is the first argument that makes this program the load generator.
const loadCommand = "generate-load"

// second is what the load generator reports of each second, as a line of JSON.
type second struct {
	Sent      int             `json:"sent"`
	Latencies []time.Duration `json:"latencies"` // ascending
}

// loadMain sends requests at a constant rate, whatever the answers do, and
// measures each from the moment when it was due: a service that stands still makes
// all that were due meanwhile late, as it does to its users.
func loadMain(args []string) error {
	fs := flag.NewFlagSet(loadCommand, flag.ContinueOnError)
	socket := fs.String("socket", "", "")
	rate := fs.Int("rate", 0, "")
	cost := fs.Int("cost", 0, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	conn, err := net.Dial("unix", *socket)
	if err != nil {
		return err
	}
	// Sender and receiver block in the kernel, on threads of their own: the
	// runtime's timers and its poller would add their own delays.
	file, err := conn.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	if err := errors.Join(conn.Close(), syscall.SetNonblock(int(file.Fd()), false)); err != nil {
		return err
	}
	due := make(chan time.Time, 1<<16)
	failed := make(chan error, 2)
	go func() { failed <- send(file, *rate, request(*cost), due) }()
	go func() { failed <- receive(file, due, os.Stdout) }()
	return <-failed
}

// request asks Redis to run a loop of n turns.
func request(n int) []byte {
	script := "local s=0 for i=1," + strconv.Itoa(n) + " do s=s+i end return 1"
	var b []byte
	for i, part := range []string{"EVAL", script, "0"} {
		if i == 0 {
			b = append(b, "*3\r\n"...)
		}
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(part), part)
	}
	return b
}

func send(w io.Writer, rate int, req []byte, due chan<- time.Time) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := exactTimers(); err != nil {
		return err
	}
	every := time.Second / time.Duration(rate)
	for at := time.Now(); ; at = at.Add(every) {
		for wait := time.Until(at); wait > 0; wait = time.Until(at) {
			sleep(wait)
		}
		select {
		case due <- at:
		default:
			return errors.New("the service has not answered for too long")
		}
		if _, err := w.Write(req); err != nil {
			return err
		}
	}
}

func receive(r io.Reader, due <-chan time.Time, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in := bufio.NewReader(r)
	enc := json.NewEncoder(out)
	var s second
	next := time.Now().Add(time.Second)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, ":") {
			return fmt.Errorf("the service answered %q", strings.TrimSpace(line))
		}
		now := time.Now()
		s.Latencies = append(s.Latencies, now.Sub(<-due))
		if now.Before(next) {
			continue
		}
		s.Sent = len(s.Latencies)
		slices.Sort(s.Latencies)
		if err := enc.Encode(s); err != nil {
			return err
		}
		s.Latencies = s.Latencies[:0]
		next = now.Add(time.Second)
	}
}

// quantile of ascending latencies; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
