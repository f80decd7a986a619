// SPDX-License-Identifier: Apache-2.0

// Package elastic turns pressure into events, and events into decisions.
//
// # Model
//
// There are two halves. The lower one, [Engine] and [Watch], tells at once what
// happens to groups. The upper one looks once a second at everything: a [Meter]
// makes a [Snapshot], a [Monitor] grades who suffers from what, each [Policy] says
// what it wants done, a [Planner] holds that to the rules of the ladder, the
// embedder may veto it, and a [Controller] does it and looks whether it helped.
// Everything between the measuring and the doing is pure: a recorded trace gives
// the same decisions again (see [Replay]).
//
// What a controller works on is a [Fleet] of [Target]s: a host of package isolation,
// where there is an example of both together, or anybody's.
//
// An [Engine] watches any number of groups, the machine and the ends of
// processes with one goroutine on one thread. A [Watch] is the reader of one
// group's events: [Pressure] when a [Threshold] is crossed and when that is
// over, [OOM], [LimitHit], [Populated], [Frozen], and [Gone] at the end. Events
// are in order. The queue of a slow reader is bounded; what it loses is counted
// and said ([Lost]).
//
// # Pressure, with and without privilege
//
// The kernel tells of pressure at once to whom has CAP_SYS_RESOURCE. The engine
// then sleeps until that happens, and samples only from a crossing until it is
// over. To everybody else the kernel tells seconds late, so the engine samples
// the exact counters instead, at a cost of some microseconds a file: five times a
// window while nothing stalls, and up to ten times a second near a threshold, so
// that a look follows a crossing within a tenth of a second. The events are the same;
// [Pressure] says which way it was and how late it may be. The choice is made
// by asking the kernel, for each threshold.
//
// A group's own CPU quota makes cpu pressure. [Pressure].Throttled says how much
// of that there was, so that a quota is not taken for a busy machine.
//
// # Corrections
//
// Best-effort work is squeezed for the sake of everybody else, and in this order:
// throttled, reclaimed from, frozen, killed. What can be taken back comes first; a
// kill needs something milder before it, and time between kills. Each correction
// says why, from which figures, and what it expects, and it is told afterwards
// whether that came true. A knob of a class of sandboxes belongs to one policy,
// so two never fight over it. The formulas are those of published controllers,
// named in each policy's comment.
//
// Limits of a sandbox's network are corrections like others, for targets that are
// [Networked]. Networks are measured only for policies that move such limits.
//
// # The agent
//
// A controller's look costs CPU time, a fifth of a millisecond for a sandbox whose
// figures are in no cache, and a service that wakes there meanwhile waits for it
// unless the agent has the lower priority. So an agent runs best at nice 19, or in
// a group of a low weight, and has its sandboxes start at nice 0. Where best effort may
// fill every CPU that has a price: the agent then has what its weight has beside that of
// the sandboxes' parent group, at nice 19 some 1.5% of a CPU, and acts late.
//
// What is new does not wait for the next look: a fleet that is [Announcing] tells of it,
// and policies that are [Greeter]s place it at once.
//
// # Limits of this package
//
// Windows are from 500 ms to 10 s, as the kernel's. What happens and passes
// between two looks at a file (a group that is empty for a moment) may not be
// seen. A v1 group that is renamed may be gone without [Gone]. The package never
// logs.
package elastic
