// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
)

// mark is the first argument of a test binary that is a workload. The second
// tells whose, and the third what it does.
const mark = "caisson-workload"

// asked is whether [Workload] was called. In a test binary that does not, a workload
// would be all of its tests once more.
var asked atomic.Bool

// program is the spec of a workload of this package: this test binary.
func program(id string, class elastic.Class, does string, args ...string) isolation.Spec {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	return isolation.Spec{ID: id, Class: class, Process: isolation.Process{Args: append([]string{exe, mark, id, does}, args...)}}
}

// Pulse is a victim for whom has none of his own: a latency-critical process that has
// something to do each time that every has passed, for as long as work on a processor of
// its own, with a memory of 256 KiB.
func Pulse(every, work time.Duration) Victim {
	return Victim{
		Spec: program("victim", elastic.LatencyCritical, "pulse", every.String(), work.String()),
		Latency: func(line string) (time.Duration, bool) {
			ns, err := strconv.ParseInt(line, 10, 64)
			return time.Duration(ns), err == nil
		},
	}
}

// CPUHog is an antagonist whose threads compute without end.
//
// All antagonists of this package are best effort; their ID, Class, Resources and the rest
// can be changed before the experiment.
func CPUHog(threads int) isolation.Spec {
	return program("cpu-hog", elastic.BestEffort, "cpu", strconv.Itoa(threads))
}

// MemoryHog is an antagonist that takes so much memory as fast as it can, and goes on to
// write to each page of it.
func MemoryHog(bytes int64) isolation.Spec {
	return program("memory-hog", elastic.BestEffort, "memory", strconv.FormatInt(bytes, 10))
}

// CacheHog is an antagonist that changes bytes here and there in so much memory: twice
// what the processors' shared cache holds leaves little of it to others.
func CacheHog(bytes int64) isolation.Spec {
	return program("cache-hog", elastic.BestEffort, "cache", strconv.FormatInt(bytes, 10))
}

// DiskHog is an antagonist that writes so many bytes to a file without a name in dir, has
// them brought to the disk, and begins again.
func DiskHog(dir string, bytes int64) isolation.Spec {
	return program("disk-hog", elastic.BestEffort, "disk", dir, strconv.FormatInt(bytes, 10))
}

// ForkHog is an antagonist that always has so many short-lived processes, one after
// the other.
func ForkHog(at int) isolation.Spec {
	return program("fork-hog", elastic.BestEffort, "fork", strconv.Itoa(at))
}

// job is what a victim or an antagonist of this package does.
type job struct {
	does        string
	every, work time.Duration // of a pulse
	dir         string        // of a disk hog
	n           int           // how many, or bytes
}

// parseJob reads the arguments of a workload.
func parseJob(does string, args []string) (j job, err error) {
	j.does = does
	if does == "pulse" && len(args) == 2 {
		var werr error
		j.every, err = time.ParseDuration(args[0])
		j.work, werr = time.ParseDuration(args[1])
		if err = errors.Join(err, werr); err == nil && !(0 < j.work && j.work < j.every) {
			err = fmt.Errorf("work of %v cannot be done every %v", j.work, j.every)
		}
		return j, err
	}
	if does == "disk" && len(args) == 2 {
		j.dir, args = args[0], args[1:]
		if !filepath.IsAbs(j.dir) {
			return j, fmt.Errorf("directory %q is not an absolute path", j.dir)
		}
	}
	if len(args) != 1 {
		return j, fmt.Errorf("workload %s has %d arguments", does, len(args))
	}
	if j.n, err = strconv.Atoi(args[0]); err == nil && j.n <= 0 {
		err = fmt.Errorf("%s of %d", does, j.n)
	}
	return j, err
}

// names are those of the antagonists.
func names(specs []isolation.Spec) string {
	var ids []string
	for _, s := range specs {
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, ", ")
}
