// SPDX-License-Identifier: Apache-2.0

package launch

// Scheduling is how the child is scheduled. The zero value of each field leaves
// what it inherits.
type Scheduling struct {
	CPUs []int // it may run on, within its cpuset

	Policy   int  // SCHED_*
	Nice     *int // for SCHED_OTHER and SCHED_BATCH
	Priority int  // for SCHED_FIFO and SCHED_RR

	IOClass, IOLevel int // IOPRIO_CLASS_* and 0 to 7

	// Core lets no process of anybody else run on the other threads of its core
	// at the same time. Optional. Linux 5.14.
	Core bool
}
