// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/compact"
)

// What the native driver writes on a sandbox's group, as extended attributes of
// the directory: so that other tools see whose it is, and that the next agent
// finds it without a record. They go with the group, so they are of this boot.
const (
	labelSandbox = "sandbox" // a mark, as JSON, once the sandbox is whole
	labelProcess = "process" // the driver's state, once the process runs
	labelHost    = "host"    // whose parent group it is
	labelPrefix  = "label."  // and a label's key: its value
)

const (
	markVersion = 1
	maxMark     = 4096 // bytes
)

// mark is what a group says of its sandbox.
type mark struct {
	Version int       `json:"v"`
	Host    string    `json:"host"`
	Created time.Time `json:"created"`
	Spec    Spec      `json:"spec"`
}

func (m mark) MarshalJSON() ([]byte, error) {
	o := compact.NewObject(512)
	o.Number("v", uint64(m.Version))
	o.Text("host", m.Host)
	o.Time("created", m.Created)
	o.Object("spec", m.Spec.members)
	return o.Bytes()
}

// mark writes on the group what sandbox it is. Kernels and users that cannot have
// attributes go without.
func (d *nativeDriver) mark(c *Container) error {
	if c.Cgroup() == nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(c.Spec.Labels)) {
		if err := markable(c.Cgroup().SetLabel(labelPrefix+k, c.Spec.Labels[k])); err != nil {
			return err
		}
	}
	m := mark{Version: markVersion, Host: d.scope, Created: c.record.created, Spec: c.Spec}
	m.Spec.Process.Env = nil // it may be secret
	text, err := compact.Marshal(&m)
	if err == nil && len(text) > maxMark {
		m.Spec.Process.Args = m.Spec.Process.Args[:1]
		m.Spec.Labels = nil // which are there by themselves
		text, err = compact.Marshal(&m)
	}
	if err != nil {
		return err
	}
	return markable(c.Cgroup().SetLabel(labelSandbox, string(text)))
}

// markProcess writes on the group which process is its first.
func markProcess(c *Container, saved nativeState) error {
	if c.Cgroup() == nil {
		return nil
	}
	text, err := compact.Marshal(saved)
	if err != nil {
		return err
	}
	return markable(c.Cgroup().SetLabel(labelProcess, string(text)))
}

// markable is err, unless it says that there are no such attributes here, or too
// many or too large ones: they are a second way to find what the record says.
func markable(err error) error {
	if errors.Is(err, ErrNotSupported) || errors.Is(err, ErrInvalid) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.E2BIG) {
		return nil
	}
	return err
}

// readMark is what the group says of its sandbox; ok is false if it says nothing
// that makes sense, or is another host's.
func readMark(g *cgroups.Cgroup, id, host string) (m mark, state nativeState, ok bool, err error) {
	labels, err := g.Labels()
	if err != nil {
		return m, state, false, markable(err)
	}
	if m, ok = parseMark(labels, id, host); !ok {
		return m, state, false, nil
	}
	// Without word of a process, one may have been started all the same.
	state = nativeState{Group: g.ID(), Starting: true}
	return m, processOf(labels, state), true, nil
}

// markedByOther reports whether a group says that it is another host's sandbox.
func markedByOther(g *cgroups.Cgroup, host string) (bool, error) {
	labels, err := g.Labels()
	if err != nil {
		return false, markable(err)
	}
	var m mark
	err = json.Unmarshal([]byte(labels[labelSandbox]), &m)
	return err == nil && m.Host != host, nil
}

// parseMark is the mark in the labels of the group called id, if there is one, it
// makes sense, and it is this host's.
func parseMark(labels map[string]string, id, host string) (m mark, ok bool) {
	if json.Unmarshal([]byte(labels[labelSandbox]), &m) != nil || m.Version != markVersion || m.Host != host {
		return mark{}, false
	}
	if m.Spec.Labels == nil {
		for k, v := range labels {
			if key, is := strings.CutPrefix(k, labelPrefix); is {
				if m.Spec.Labels == nil {
					m.Spec.Labels = make(map[string]string)
				}
				m.Spec.Labels[key] = v
			}
		}
	}
	if m.Spec.ID != id || m.Spec.Validate() != nil {
		return mark{}, false
	}
	return m, true
}

// markedProcess takes over what the group says of a process that the record does
// not tell of.
func markedProcess(c *Container, state *nativeState) error {
	labels, err := c.Cgroup().Labels()
	if err != nil {
		return markable(err)
	}
	*state = processOf(labels, *state)
	return nil
}

// processOf is the state in the labels of a group, or what it is without.
func processOf(labels map[string]string, without nativeState) nativeState {
	var s nativeState
	text, marked := labels[labelProcess]
	if !marked || json.Unmarshal([]byte(text), &s) != nil || s.Group.Ino != without.Group.Ino {
		return without
	}
	return s
}
