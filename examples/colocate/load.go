// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// loadCommand is the first argument that makes this program the load generator.
const loadCommand = "generate-load"

// second is what the load generator reports of each second's requests, once they
// are answered, as a line of JSON.
type second struct {
	Latencies []time.Duration `json:"latencies"` // ascending
}

// loadMain sends requests when they are due, whatever the answers do, and measures
// each from that moment: a service that stands still makes all that were due
// meanwhile late, as it does to its users.
//
// The users are not on the service's machine, so this program must not be felt
// there. It is one thread that is woken when a request is due and when an answer is
// there. It calls the kernel past Go's scheduler, which otherwise has a thread
// look after each blocking call, every 20 us for a while: that thread pushes the
// service off its CPU.
func loadMain(args []string) error {
	fs := flag.NewFlagSet(loadCommand, flag.ContinueOnError)
	socket := fs.String("socket", "", "")
	rate := fs.Int("rate", 0, "")
	cost := fs.Int("cost", 0, "")
	even := fs.Bool("even", false, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	conn, err := net.Dial("unix", *socket)
	if err != nil {
		return err
	}
	file, err := conn.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	fd := int(file.Fd()) // once: it makes the descriptor blocking
	if err := errors.Join(conn.Close(), syscall.SetNonblock(fd, true)); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // nobody could stop this thread for it
	defer runtime.KeepAlive(file)
	l := load{gaps: arrivals(*rate, *even), request: request(*cost), rate: *rate}
	return l.drive(fd, int(os.Stdout.Fd()))
}

// load is what has been sent and answered.
type load struct {
	gaps    []time.Duration
	request []byte
	rate    int // requests a second

	sent      int             // requests that were due
	due       []time.Duration // when those without an answer were, in order
	unsent    []byte          // what the socket did not take yet
	partial   bool            // the last answer is not whole
	latencies []time.Duration // not reported yet
	report    []byte
}

// mostDue is how many requests may wait for an answer.
const mostDue = 1 << 16

// answered takes in what was read at a moment.
func (l *load) answered(b []byte, now time.Duration) error {
	for _, c := range b {
		switch {
		case !l.partial && c != ':':
			return fmt.Errorf("the service answered %q", b)
		case c == '\n':
			if len(l.due) == 0 {
				return errors.New("the service answered what was not asked")
			}
			l.latencies = append(l.latencies, now-l.due[0])
			l.due = l.due[:copy(l.due, l.due[1:])]
		}
		l.partial = c != '\n'
	}
	return nil
}

// told is the report of the next second as a line of JSON, if it is over: as many
// requests as there are in one, so that some whole seconds are a cycle exactly.
func (l *load) told() ([]byte, bool) {
	if len(l.latencies) < l.rate {
		return nil, false
	}
	slices.Sort(l.latencies[:l.rate])
	b := append(l.report[:0], `{"latencies":[`...)
	for i, d := range l.latencies[:l.rate] {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	l.latencies = l.latencies[:copy(l.latencies, l.latencies[l.rate:])]
	l.report = append(b, "]}\n"...)
	return l.report, true
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

// cycle is after what time the same requests come at the same distances again.
// What is measured for that long, or a multiple of it, is comparable.
const cycle = 2 * time.Second

// arrivals are the gaps between the requests of a cycle. Users who do not know of
// each other come at random, and their gaps are exponential: sometimes several come
// at once, and one waits for the other. Even ones are all equal.
func arrivals(rate int, even bool) []time.Duration {
	n := rate * int(cycle/time.Second)
	r := rand.New(rand.NewPCG(1, 2))
	weights, sum := make([]float64, n), 0.0
	for i := range weights {
		weights[i] = 1
		if !even {
			weights[i] = r.ExpFloat64()
		}
		sum += weights[i]
	}
	gaps := make([]time.Duration, n)
	for i, w := range weights {
		gaps[i] = time.Duration(w / sum * float64(cycle))
	}
	return gaps
}

// quantile of ascending latencies; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
