// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// run does the job. None ends by itself.
func (j job) run() error {
	debug.SetGCPercent(-1) // no pauses of its own
	switch j.does {
	case "pulse":
		return pulse(j.every, j.work)
	case "disk":
		return fillDisk(j.dir, int64(j.n))
	case "fork":
		return forkOn(j.n)
	case "cpu":
		runtime.GOMAXPROCS(j.n)
		for range j.n - 1 {
			go spin()
		}
		spin()
	}
	memory, err := syscall.Mmap(-1, 0, j.n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("take %d bytes: %w", j.n, err)
	}
	if j.does == "cache" {
		scatter(memory)
	}
	for {
		for i := 0; i < len(memory); i += os.Getpagesize() {
			memory[i]++
		}
	}
}

func spin() {
	for {
		_ = rand.Int() // work that is not optimised away
	}
}

// scatter changes a byte of one line of the cache after the other, in no order.
func scatter(memory []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for {
		memory[r.IntN(len(memory))]++
	}
}

func fillDisk(dir string, size int64) error {
	f, err := os.CreateTemp(dir, "caisson-disk-hog-")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for {
		for at := int64(0); at < size; at += int64(len(block)) {
			part := block[:min(int64(len(block)), size-at)]
			if _, err := f.WriteAt(part, at); err != nil {
				return err
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil { // or the next would only write over what is there
			return err
		}
	}
}

// forkOn has n processes at a time, one after the other.
func forkOn(n int) error {
	failed := make(chan error)
	for range n {
		go func() {
			for {
				p, err := again("exit", "0")
				if errors.Is(err, syscall.EAGAIN) { // as many as it may have
					continue
				}
				if err == nil {
					_, err = p.Wait()
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// pulse writes how long each of its turns took from when it was due, in nanoseconds.
func pulse(every, work time.Duration) error {
	runtime.LockOSThread()
	buffer := make([]byte, 256<<10)
	turns := calibrated(buffer, work)
	line := make([]byte, 0, 32)
	for due := time.Now(); ; due = due.Add(every) {
		for d := time.Until(due); d > 0; d = time.Until(due) {
			left := syscall.NsecToTimespec(int64(d))
			_ = syscall.Nanosleep(&left, nil) // signals interrupt it
		}
		compute(buffer, turns)
		line = strconv.AppendInt(line[:0], int64(time.Since(due)), 10)
		if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
			return err
		}
	}
}

// compute changes so many lines of the cache. It is the same code wherever it is called
// from, or calibrating it would be for nothing.
//
//go:noinline
func compute(buffer []byte, turns int) {
	for i := range turns {
		buffer[i*64%len(buffer)]++
	}
}

// calibrated is how many turns take that long where nobody disturbs: by the fastest of
// several.
func calibrated(buffer []byte, work time.Duration) int {
	const turns = 100_000
	best := time.Duration(1 << 62)
	for range 20 {
		start := time.Now()
		compute(buffer, turns)
		best = min(best, max(time.Since(start), 1))
	}
	return max(1, int(float64(turns)*float64(work)/float64(best)))
}
