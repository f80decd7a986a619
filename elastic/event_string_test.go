// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/assert"
)

func TestEventString(t *testing.T) {
	crossed := Pressure{
		Threshold: Threshold{Resource: cgroups.PressureMemory, Full: true, Stall: 200 * time.Millisecond, Window: 2 * time.Second},
		Rising:    true, Stalled: 400 * time.Millisecond, Span: 2 * time.Second, Source: Sampler, Latency: 100 * time.Millisecond,
	}
	over := crossed
	over.Rising, over.Full, over.Resource = false, false, cgroups.PressureCPU
	over.Throttled = cgroups.ReadingOf(30 * time.Millisecond)
	changed := cgroups.Drift{Knob: "pids.max", Path: "/a/pids.max", Found: "9", Wanted: "8"}
	for want, ev := range map[string]Event{
		"memory full stalled 400ms of 2s (threshold 200ms in 2s, seen by sampler within 100ms)":                                     crossed,
		"over: cpu some stalled 400ms of 2s (threshold 200ms in 2s, seen by sampler within 100ms), throttled 30ms by its own quota": over,
		"out of memory: 2 processes killed":                             OOM{Kills: 2},
		"memory.high held something back 3 times":                       LimitHit{Resource: "memory.high", Count: 3},
		"there are processes":                                           Populated{Populated: true},
		"no process is left":                                            Populated{},
		"all processes stand still":                                     Frozen{Frozen: true},
		"the processes go on":                                           Frozen{},
		"pids.max is what was set again":                                Drift{Drift: changed, Over: true},
		"somebody else changed " + changed.String() + "; reapplied: no": Drift{Drift: changed, Did: "reapplied", Err: "no"},
		"io pressure cannot be watched any more: gone":                  Failed{What: "io pressure", Err: errors.New("gone")},
		"5 events were dropped, because nobody read them in time":       Lost{N: 5},
		"the group was removed":                                         Gone{},
	} {
		assert.Equal(t, want, fmt.Sprint(ev))
	}
}
