// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTriggerIsPrompt has two threads wait in ppoll(2), each for a trigger of its own,
// and the engine for a third one just like them: who reads the engine's events has
// them about as soon as the first thread, and as the second one has. They fire in the
// same look of the kernel, one in a tenth of a window, unless a crossing falls between
// two; such rounds tell nothing. CAISSON_NOTICE is how many rounds.
func TestTriggerIsPrompt(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.PSI, testutil.SysResource)
	// The runtime is not told of threads that wait as a C program does: they keep their
	// share of it, and it could not collect garbage.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("CAISSON_NOTICE")); err == nil {
		rounds = n
	}
	cg := create(t, openRoot(t), cgroups.ControllerCPU)
	th := Threshold{Resource: cgroups.PressureCPU, Stall: 100 * ms, Window: 500 * ms}
	var raw [2]*cgroups.Notifier
	w := watch(t, newEngine(t), WatchConfig{Cgroup: cg, Pressure: []Threshold{th}})
	for i := range raw {
		var err error
		raw[i], err = cg.OpenTrigger(th.Resource, th.trigger())
		require.NoError(t, err)
		defer raw[i].Close()
	}
	run(t, cg, "spin")

	var late, other []time.Duration
	for range rounds {
		update(t, cg, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.1)}})
		var woken [2]chan time.Time
		for i := range raw {
			woken[i] = make(chan time.Time, 1)
			go func() { woken[i] <- awaitRaw(raw[i]) }()
		}
		ev := until(t, w, func(p Pressure) bool { return p.Rising })
		read := time.Now()
		first, second := <-woken[0], <-woken[1]
		require.False(t, first.IsZero() || second.IsZero(), "the raw triggers")
		if d, o := read.Sub(first), second.Sub(first); ev.Source == Trigger && d.Abs() < th.Window/20 && o.Abs() < th.Window/20 {
			late, other = append(late, d), append(other, o)
		}
		update(t, cg, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.NoQuota()}})
		until(t, w, func(p Pressure) bool { return !p.Rising })
		for _, n := range raw {
			for awaitRawFor(n, 0) { // what fired meanwhile
			}
		}
	}
	if len(late) == 0 {
		return
	}
	slices.Sort(late)
	slices.Sort(other)
	at := func(list []time.Duration, percent int) time.Duration { return list[(len(list)-1)*percent/100] }
	t.Logf("in %d of %d rounds, after the first thread's wake-up in ppoll: the engine's event was read %v later at the median, %v at the p95, %v at most; the second thread woke up %v later, %v and %v",
		len(late), rounds, at(late, 50), at(late, 95), at(late, 100), at(other, 50), at(other, 95), at(other, 100))
	assert.Less(t, late[0], testutil.Patience(ms), "at best")
}

// awaitRaw is when n is ready; zero if it is not within a time.
func awaitRaw(n *cgroups.Notifier) time.Time {
	if !awaitRawFor(n, testutil.Patience(10*time.Second)) {
		return time.Time{}
	}
	return time.Now()
}

// awaitRawFor waits for n as a C program does, with its system call and none of Go's
// runtime around it, on a thread that does nothing else.
func awaitRawFor(n *cgroups.Notifier, d time.Duration) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pfd := struct {
		fd              int32
		events, revents int16
	}{fd: int32(n.FD()), events: 0x2} // POLLPRI
	for end := time.Now().Add(d); ; {
		ts := syscall.NsecToTimespec(max(0, int64(time.Until(end))))
		got, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&pfd)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != syscall.EINTR {
			return errno == 0 && got == 1 && pfd.revents&0x2 != 0
		}
	}
}
