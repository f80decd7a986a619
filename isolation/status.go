// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"fmt"
	"time"
)

// State is where a sandbox is in its life.
type State string

// The states of a sandbox, in the order in which it passes through them.
const (
	StateCreating   State = "creating"   // half-made: only seen after a crash
	StateCreated    State = "created"    // whole; no process was started
	StateRunning    State = "running"    // the first process lives
	StateExited     State = "exited"     // the first process has ended
	StateDestroying State = "destroying" // being taken apart
)

// Status is one truthful answer about a sandbox.
type Status struct {
	ID     string            `json:"id"`
	Driver string            `json:"driver"`
	State  State             `json:"state"`
	Labels map[string]string `json:"labels,omitempty"`

	// Adopted: somebody else started it, and its life is his. See [Host.Adopt].
	Adopted bool `json:"adopted,omitzero"`

	// PID is the first process, in the caller's pid namespace; 0 unless
	// running. Of an adopted container it is one of its processes.
	PID    int  `json:"pid,omitzero"`
	PIDs   int  `json:"pids"`            // processes in the sandbox's own group and those of ExecGroup, not in groups that the workload made
	Frozen bool `json:"frozen,omitzero"` // no process of the sandbox runs

	Exit *ExitStatus `json:"exit,omitempty"` // set once exited

	CreatedAt time.Time `json:"createdAt,omitzero"`
	StartedAt time.Time `json:"startedAt,omitzero"`

	Cgroup string `json:"cgroup,omitzero"` // path below each hierarchy's top

	// Claims are who holds knobs over what Update has set, the highest
	// first.
	Claims []ClaimStatus `json:"claims,omitempty"`

	// Narrowed is how a controller has limited the network, below what
	// UpdateNetwork has set; nil if none has.
	Narrowed *Narrowed `json:"narrowed,omitempty"`

	// Drift lists the limits that are not what was set, since somebody else
	// changed them.
	Drift []Drift `json:"drift,omitempty"`

	// Missing lists what was asked for with leave to do without, and is not
	// in force.
	Missing []string `json:"missing,omitempty"`
}

// ExitStatus is how a process ended.
type ExitStatus struct {
	Known  bool `json:"known"`           // false: it ended as the child of an agent that is gone, before Linux 6.15 and without a Config.Supervisor
	Code   int  `json:"code"`            // exit code, or 128 + Signal as shells count
	Signal int  `json:"signal,omitzero"` // the signal that ended it, or 0
	OOM    bool `json:"oom,omitzero"`    // the kernel killed in this sandbox for lack of memory

	At time.Time `json:"at,omitzero"` // when it was noticed
}

// String is "exit status 1", "signal 9 (out of memory)" or "unknown".
func (e ExitStatus) String() string {
	oom := ""
	if e.OOM {
		oom = " (out of memory)"
	}
	switch {
	case !e.Known:
		return "unknown" + oom
	case e.Signal != 0:
		return fmt.Sprintf("signal %d%s", e.Signal, oom)
	}
	return fmt.Sprintf("exit status %d%s", e.Code, oom)
}
