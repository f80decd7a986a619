// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
)

// used is what was used since the sandboxes were made, and how long the CPUs have
// been idle since the machine was started.
type used struct {
	service, batch time.Duration
	agent          time.Duration // this program
	idle           time.Duration
	kills          uint64
}

func (s *stage) usage() (u used, err error) {
	if u.idle, err = resting(); err != nil {
		return u, err
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return u, err
	}
	u.agent = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	var st cgroups.Stats
	cpu := func(sb *isolation.Sandbox) (time.Duration, error) {
		if err := sb.Stat(&st); err != nil {
			return 0, err
		}
		d, _ := st.CPU.Usage.Value()
		return d, nil
	}
	for _, sb := range []*isolation.Sandbox{s.service, s.client} {
		d, err := cpu(sb)
		if err != nil {
			return u, err
		}
		u.service += d
		kills, _ := st.Memory.Events.OOMKill.Value()
		u.kills += kills
	}
	for _, sb := range s.jobs {
		d, err := cpu(sb)
		if err != nil {
			return u, err
		}
		u.batch += d
	}
	return u, nil
}

// resting is the time that all CPUs together were idle, from /proc/stat. What its
// other times are is sampled by the tick, so of a load that is as periodic as the
// tick they may miss all; this one is measured.
func resting() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system, idle, iowait uint64
	if _, err := fmt.Sscanf(string(b), "cpu %d %d %d %d %d", &user, &nice, &system, &idle, &iowait); err != nil {
		return 0, fmt.Errorf("/proc/stat: %w", err)
	}
	const tick = time.Second / 100 // USER_HZ of proc_stat(5)
	return time.Duration(idle+iowait) * tick, nil
}

// others is how many CPUs were used from before to after by nobody of the stage nor by
// the agent, the kernel's threads and the machine's host included.
func others(before, after used, elapsed time.Duration) float64 {
	ours := after.service - before.service + after.batch - before.batch + after.agent - before.agent + after.idle - before.idle
	return float64(runtime.NumCPU()) - float64(ours)/float64(elapsed)
}
