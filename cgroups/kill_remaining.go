// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/internal/linux"
)

// A RemainingError says what is left when the time for a [Cgroup.Kill] or
// [Cgroup.Remove] is over. It matches the context's error.
type RemainingError struct {
	Path      string    // of the group
	Groups    []string  // directories that could not be removed
	Processes []Process // in the group or below it
	Err       error
}

// Process is a process that remains.
type Process struct {
	PID   int    `json:"pid"`
	Name  string `json:"name,omitempty"`  // the name it gave itself
	State string `json:"state,omitempty"` // "D" is a wait that no signal ends
	Wchan string `json:"wchan,omitempty"` // the kernel function it waits in, if the kernel tells
}

// String is "4711 (cat) D in folio_wait_bit".
func (p Process) String() string {
	s := strconv.Itoa(p.PID)
	if p.Name != "" {
		s += " (" + p.Name + ")"
	}
	if p.State != "" {
		s += " " + p.State
	}
	if p.Wchan != "" {
		s += " in " + p.Wchan
	}
	return s
}

// Error lists the first few of what is left.
func (e *RemainingError) Error() string {
	const most = 8
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Path, e.Err)
	for i, p := range e.Processes {
		if i == most {
			fmt.Fprintf(&b, ", and %d more", len(e.Processes)-most)
			break
		}
		b.WriteString(separator(i, "; remaining processes: "))
		b.WriteString(p.String())
	}
	for i, g := range e.Groups {
		if i == most {
			fmt.Fprintf(&b, ", and %d more", len(e.Groups)-most)
			break
		}
		b.WriteString(separator(i, "; remaining groups: "))
		b.WriteString(g)
	}
	return b.String()
}

func separator(i int, first string) string {
	if i == 0 {
		return first
	}
	return ", "
}

// Unwrap gives the context's error.
func (e *RemainingError) Unwrap() error { return e.Err }

// remaining describes who is still in the group.
func (c *Cgroup) remaining(err error) error {
	pids, _ := everyone(c.places())
	e := &RemainingError{Path: c.path, Err: err}
	for _, pid := range pids {
		e.Processes = append(e.Processes, c.root.process(pid))
	}
	return e
}

// process reads what /proc tells, which may be less than all.
func process(pid int) Process {
	p := Process{PID: pid}
	if st, err := linux.ReadStat(pid); err == nil {
		p.Name, p.State = st.Comm, string(st.State)
	}
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/wchan"); err == nil && string(b) != "0" {
		p.Wchan = string(b)
	}
	return p
}
