// SPDX-License-Identifier: Apache-2.0

package netns

import "time"

// InterfaceStats measures one interface of a sandbox.
type InterfaceStats struct {
	Link    LinkStats `json:"link"`    // seen from inside
	Egress  Queue     `json:"egress"`  // what waits to be sent; zero without a limit
	Ingress Queue     `json:"ingress"` // what waits to be received; zero without a limit
}

// Queue counts what passed a limit since it was set first.
type Queue struct {
	Bytes      uint64 `json:"bytes"`
	Packets    uint64 `json:"packets"`
	Drops      uint64 `json:"drops"`      // packets that found the queue full; the kernel counts in 32 bits
	Overlimits uint64 `json:"overlimits"` // how often something had to wait; the kernel counts in 32 bits
	Backlog    uint64 `json:"backlog"`    // bytes that wait
	Waiting    uint64 `json:"waiting"`    // packets that wait
}

// Congestion is how much a queue held up between two looks: what pressure is for
// CPU, memory and IO.
type Congestion struct {
	// Delay is how long the last packet in the queue will have waited, at the
	// rate that left the queue since the earlier look.
	Delay time.Duration `json:"delay"`
	// Dropped is the share of packets that found the queue full, 0 to 1.
	Dropped float64 `json:"dropped"`
	// Limited is how often something had to wait.
	Limited uint64 `json:"limited"`
	// Rate is what left the queue, in bits a second.
	Rate float64 `json:"rate"`
}

// Since compares q with an earlier look at the same queue, elapsed ago. A queue
// that was made anew in between is compared with an empty one.
func (q Queue) Since(earlier Queue, elapsed time.Duration) Congestion {
	if q.Bytes < earlier.Bytes || q.Packets < earlier.Packets {
		earlier = Queue{}
	}
	var c Congestion
	const wrap = 1<<32 - 1
	drops := (q.Drops - earlier.Drops) & wrap
	c.Limited = (q.Overlimits - earlier.Overlimits) & wrap
	if all := drops + q.Packets - earlier.Packets; all > 0 {
		c.Dropped = float64(drops) / float64(all)
	}
	if elapsed <= 0 {
		return c
	}
	c.Rate = float64(q.Bytes-earlier.Bytes) * 8 / elapsed.Seconds()
	if q.Backlog > 0 {
		c.Delay = elapsed // nothing left the queue
		if c.Rate > 0 {
			c.Delay = time.Duration(min(float64(q.Backlog)*8/c.Rate, 3600) * float64(time.Second))
		}
	}
	return c
}
