// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"os"
	"runtime"
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

// TestTriggerIsPrompt has a thread wait for a trigger in ppoll(2), and the engine for
// another one just like it: who reads the engine's events has them about as soon. They
// fire in the same look of the kernel, one in a tenth of a window, unless a crossing
// falls between the two; such rounds tell nothing. CAISSON_NOTICE is how many rounds.
func TestTriggerIsPrompt(t *testing.T) {
	testutil.CheckLeaks(t)
	testutil.Require(t, testutil.Root, testutil.PSI, testutil.SysResource)
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("CAISSON_NOTICE")); err == nil {
		rounds = n
	}
	cg := create(t, openRoot(t), cgroups.ControllerCPU)
	th := Threshold{Resource: cgroups.PressureCPU, Stall: 100 * ms, Window: 500 * ms}
	w := watch(t, newEngine(t), WatchConfig{Cgroup: cg, Pressure: []Threshold{th}})
	raw, err := cg.OpenTrigger(th.Resource, th.trigger())
	require.NoError(t, err)
	defer raw.Close()
	run(t, cg, "spin")

	var late []time.Duration
	for range rounds {
		update(t, cg, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.1)}})
		woken := make(chan time.Time, 1)
		go func() { woken <- awaitRaw(raw) }()
		ev := until(t, w, func(p Pressure) bool { return p.Rising })
		read := time.Now()
		at := <-woken
		require.False(t, at.IsZero(), "the raw trigger")
		if d := read.Sub(at); ev.Source == Trigger && d < th.Window/20 && d > -th.Window/20 {
			late = append(late, d)
		}
		update(t, cg, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.NoQuota()}})
		until(t, w, func(p Pressure) bool { return !p.Rising })
		for awaitRawFor(raw, 0) { // what fired meanwhile
		}
	}
	if len(late) == 0 {
		return
	}
	slices.Sort(late)
	t.Logf("in %d of %d rounds the engine's event was read after the wake-up in ppoll by %v at the median, %v at the p95, %v at most",
		len(late), rounds, late[len(late)/2], late[len(late)*95/100], late[len(late)-1])
	assert.Less(t, late[0], testutil.Patience(ms), "at best")
}

// awaitRaw is when n is ready; zero if it is not within a time.
func awaitRaw(n *cgroups.Notifier) time.Time {
	if !awaitRawFor(n, testutil.Patience(10*time.Second)) {
		return time.Time{}
	}
	return time.Now()
}

// awaitRawFor waits for n as a C program does, on a thread that does nothing else.
func awaitRawFor(n *cgroups.Notifier, d time.Duration) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pfd := struct {
		fd              int32
		events, revents int16
	}{fd: int32(n.FD()), events: 0x2} // POLLPRI
	for end := time.Now().Add(d); ; {
		ts := syscall.NsecToTimespec(max(0, int64(time.Until(end))))
		got, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&pfd)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno != syscall.EINTR {
			return errno == 0 && got == 1 && pfd.revents&0x2 != 0
		}
	}
}
