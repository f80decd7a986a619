// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// runWorkload is what this program does inside its sandboxes: the arguments are
// the number of CPUs, the time between reports, and a directory for scratch
// files or nothing.
func runWorkload(name string, args []string) bool {
	work := map[string]func(cpus int, tick time.Duration, dir string){"service": service, "batch": batch}[name]
	if work == nil || len(args) != 3 {
		return false
	}
	cpus, err1 := strconv.Atoi(args[0])
	tick, err2 := time.ParseDuration(args[1])
	if err1 != nil || err2 != nil || cpus < 1 {
		return false
	}
	work(cpus, tick, args[2])
	return true
}

// What the service is asked to do.
const (
	load     = 0.4                  // of its CPUs
	request  = 4 * time.Millisecond // of CPU time, by calibration
	patience = time.Second          // a request that waited longer is given up
)

// figures is what the service measures of itself in one period.
type figures struct {
	Served  int           `json:"served"`
	GivenUp int           `json:"givenUp"`
	P50     time.Duration `json:"p50Ns"` // from when the request was due
	P99     time.Duration `json:"p99Ns"`
}

// answer is one request: how long after it was due, and whether it was served.
type answer struct {
	latency time.Duration
	served  bool
}

// service computes digests over a working set for requests that come at their
// own times, whether it keeps up or not, and reports its latency.
func service(cpus int, tick time.Duration, _ string) {
	set := make([]byte, 32<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(set); i += 8 {
		binary.LittleEndian.PutUint64(set[i:], random.Uint64())
	}
	units := calibrate(set)
	each := float64(request) / load / float64(cpus) // mean time between requests

	due := make(chan time.Time, 1<<16)
	answers := make(chan answer, 1<<16)
	for i := range cpus {
		go serve(set, units, uint64(i), due, answers)
	}
	go report(tick, answers)
	for next := time.Now(); ; {
		// Late or not, the schedule stays: a service that is slow does not
		// get fewer requests.
		time.Sleep(time.Until(next))
		due <- next
		next = next.Add(time.Duration(random.ExpFloat64() * each))
	}
}

// calibrate is how many units of work take the CPU time of a request on this
// machine, whatever else runs on it.
func calibrate(set []byte) int {
	random := rand.New(rand.NewPCG(3, 4))
	n, begin := 0, cpuTime()
	for cpuTime()-begin < 200*time.Millisecond {
		compute(set, 8, random)
		n += 8
	}
	return max(1, int(float64(n)*float64(request)/float64(cpuTime()-begin)))
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// compute digests pieces of the set and keeps the digests in it.
func compute(set []byte, units int, random *rand.Rand) {
	piece := make([]byte, 16<<10)
	for range units {
		at := random.IntN(len(set) - len(piece))
		copy(piece, set[at:])
		sum := sha256.Sum256(piece)
		copy(set[at:], sum[:])
	}
}

func serve(set []byte, units int, seed uint64, due <-chan time.Time, answers chan<- answer) {
	random := rand.New(rand.NewPCG(5, seed))
	own := slices.Clone(set[:len(set)/4]) // requests do not share data
	for at := range due {
		served := time.Since(at) < patience
		if served {
			compute(own, units, random)
		}
		answers <- answer{time.Since(at), served}
	}
}

// report writes a line of figures for each period.
func report(tick time.Duration, answers <-chan answer) {
	out := json.NewEncoder(os.Stdout)
	end := time.After(tick)
	var all []time.Duration
	var f figures
	for {
		select {
		case a := <-answers:
			all = append(all, a.latency)
			if a.served {
				f.Served++
			} else {
				f.GivenUp++
			}
		case <-end:
			end = time.After(tick)
			if len(all) > 0 {
				slices.Sort(all)
				f.P50, f.P99 = all[len(all)/2], all[len(all)*99/100]
			}
			if out.Encode(f) != nil {
				os.Exit(0) // nobody listens any more
			}
			all, f = all[:0], figures{}
		}
	}
}

// batch sorts and digests as much as it can with twice as many workers as CPUs,
// and writes results to the disk.
func batch(cpus int, _ time.Duration, dir string) {
	runtime.GOMAXPROCS(2 * cpus)
	if dir != "" {
		go func() {
			if err := scribble(filepath.Join(dir, fmt.Sprintf("caisson-quickstart-%d", time.Now().UnixNano()))); err != nil {
				fmt.Fprintln(os.Stderr, "batch does not write:", err)
			}
		}()
	}
	for i := range 2 * cpus {
		go func() {
			random := rand.New(rand.NewPCG(7, uint64(i)))
			for {
				numbers := make([]uint64, 1<<18) // 2 MiB
				for j := range numbers {
					numbers[j] = random.Uint64()
				}
				slices.Sort(numbers)
			}
		}()
	}
	select {}
}
