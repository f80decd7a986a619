// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"fmt"
	"time"
)

// String is one line, as of all events: "cpu some stalled 400ms of 2s (threshold 200ms in 2s,
// seen by trigger within 0s)", or the same after "over: ".
func (e Pressure) String() string {
	kind := "some"
	if e.Full {
		kind = "full"
	}
	s := fmt.Sprintf("%s %s stalled %s of %s (threshold %s in %s, seen by %s within %s)", e.Resource, kind,
		e.Stalled.Round(time.Millisecond), e.Span.Round(time.Millisecond), e.Stall, e.Window, e.Source, e.Latency)
	if own, ok := e.Throttled.Value(); ok && own > 0 {
		s += fmt.Sprintf(", throttled %s by its own quota", own.Round(time.Millisecond))
	}
	if !e.Rising {
		return "over: " + s
	}
	return s
}

// String is "out of memory: 1 processes killed".
func (e OOM) String() string { return fmt.Sprintf("out of memory: %d processes killed", e.Kills) }

// String is "pids.max held something back 3 times".
func (e LimitHit) String() string {
	return fmt.Sprintf("%s held something back %d times", e.Resource, e.Count)
}

// String is "there are processes" or "no process is left".
func (e Populated) String() string {
	if e.Populated {
		return "there are processes"
	}
	return "no process is left"
}

// String is "all processes stand still" or "the processes go on".
func (e Frozen) String() string {
	if e.Frozen {
		return "all processes stand still"
	}
	return "the processes go on"
}

// String says which knob holds what, where what was set, and what was done about it.
func (e Drift) String() string {
	if e.Over {
		return e.Knob + " is what was set again"
	}
	s := "somebody else changed " + e.Drift.String()
	if e.Did != "" {
		s += "; " + e.Did
	}
	if e.Err != "" {
		s += ": " + e.Err
	}
	return s
}

// String is "cpu pressure cannot be watched any more: ...".
func (e Failed) String() string {
	return fmt.Sprintf("%s cannot be watched any more: %v", e.What, e.Err)
}

// String is "5 events were dropped, because nobody read them in time".
func (e Lost) String() string {
	return fmt.Sprintf("%d events were dropped, because nobody read them in time", e.N)
}

// String is "the group was removed".
func (e Gone) String() string { return "the group was removed" }
