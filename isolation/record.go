// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/checkpoint"
	"github.com/caisson-run/caisson/internal/compact"
	"github.com/caisson-run/caisson/netns"
)

// recordVersion is the format of the lines below. A reader refuses a version
// that it does not know, and passes over fields that it does not: what an earlier
// release may ignore is a new field, everything else a new version.
const recordVersion = 1

// phase is how far the host got with a sandbox.
type phase string

const (
	phaseCreating   phase = "creating"   // intent: kernel objects may exist
	phaseCreated    phase = "created"    // whole
	phaseDestroying phase = "destroying" // intent: kernel objects may be gone
)

// entry is one line of a sandbox's log. Fields not named keep what earlier
// lines said.
type entry struct {
	Version int       `json:"v,omitzero"`    // first line only
	Boot    string    `json:"boot,omitzero"` // first line only: the boot it was made in
	Spec    *Spec     `json:"spec,omitempty"`
	At      time.Time `json:"at"`
	Phase   phase     `json:"phase,omitzero"`

	// Update is the intent to change limits, and Was what those of them held that
	// no line tells of; Updated is what holds since.
	Update  *cgroups.Resources `json:"update,omitempty"`
	Was     *cgroups.Resources `json:"was,omitempty"`
	Updated *cgroups.Resources `json:"updated,omitempty"`

	// Layers are written with the intent and once more when it is done.
	Layers *layers `json:"layers,omitempty"`

	// Reshape is the intent to change a network's limits; Network is what holds
	// since.
	Reshape *reshape    `json:"reshape,omitempty"`
	Network *netns.Spec `json:"network,omitempty"`

	// Narrowed is written with the intent and once more when it is done.
	Narrowed *narrowing `json:"narrowed,omitempty"`

	// Act is the intent to change whether processes run, or the end of that.
	Act act `json:"act,omitzero"`

	Driver json.RawMessage `json:"driver,omitempty"`
}

// record is a sandbox's log and what its lines add up to.
type record struct {
	mu      sync.Mutex
	log     *checkpoint.Log // nil until create or load
	boot    string
	created time.Time
	first   Spec // as asked for at first
	spec    Spec // with the resources that were acknowledged since
	phase   phase
	short   int64 // bytes of the log when it was one line last
	driver  json.RawMessage
	next    *unsaved          // becomes driver with the next line; nil: nothing
	cut     *interrupted      // an update was begun and not ended
	updates uint64            // how many have ended
	layers  layers            // who holds which knobs; zero if nobody does
	reshape *reshape          // a change of network limits was begun and not ended
	narrow  narrowing         // what a controller has limited the network to
	act     act               // was begun and not ended; empty: none
	forks   cgroups.Resources // pids.max before the last kill, if no line tells of it
}

func newRecord(spec Spec, boot string, now time.Time) *record {
	return &record{boot: boot, created: now, first: spec, spec: spec, phase: phaseCreating}
}

// create writes the intent, before any kernel object is made. It fails with an
// error that wraps fs.ErrExist if the id has a log already.
func (r *record) create(dir *checkpoint.Dir) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	r.log, err = dir.Create(r.first.ID, &entry{
		Version: recordVersion, Boot: r.boot, Spec: &r.first, At: r.created, Phase: phaseCreating,
	})
	return err
}

// loadRecord reads the log of id. With a corrupt log it returns both the record
// as far as it makes sense and the error.
func loadRecord(dir *checkpoint.Dir, id string) (*record, error) {
	r := &record{}
	log, err := dir.Load(id, func(line []byte) error {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		return r.apply(e)
	})
	if log == nil {
		return nil, err
	}
	r.log = log
	if err == nil && r.spec.ID != id {
		err = &checkpoint.CorruptError{Path: dir.Path(id), Err: fmt.Errorf("it is about sandbox %q", clip(r.spec.ID))}
	}
	return r, err
}

func (r *record) apply(e entry) error {
	if r.boot == "" {
		if e.Version != recordVersion {
			return &UnsupportedError{Feature: fmt.Sprintf("record format %d", e.Version),
				Reason: fmt.Sprintf("this release reads format %d: open the host with the one that wrote it", recordVersion)}
		}
		if e.Spec == nil || e.Boot == "" {
			return fmt.Errorf("the first line has no spec or no boot id")
		}
		if err := e.Spec.Validate(); err != nil {
			return err
		}
		r.boot, r.created, r.first, r.spec = e.Boot, e.At, *e.Spec, *e.Spec
	}
	if e.Phase != "" {
		r.phase = e.Phase
	}
	if e.Update != nil {
		r.cut = &interrupted{wanted: *e.Update, layers: r.layers}
		if e.Layers != nil {
			r.cut.was = e.Layers.Former
		}
		if e.Was != nil {
			r.cut.was = r.cut.was.Merge(*e.Was)
		}
	}
	if e.Updated != nil {
		r.spec.Resources, r.cut = *e.Updated, nil
		r.updates++
	}
	if e.Layers != nil {
		r.layers = *e.Layers
	}
	if e.Reshape != nil {
		r.reshape = e.Reshape
	}
	if e.Network != nil {
		r.spec.Network, r.reshape = *e.Network, nil
	}
	if e.Narrowed != nil {
		r.narrow = *e.Narrowed
	}
	switch e.Act {
	case "":
	case actDone:
		r.act = ""
	default:
		r.act, r.forks = e.Act, cgroups.Resources{}
		if e.Was != nil {
			r.forks = *e.Was
		}
	}
	if e.Driver != nil {
		r.driver = e.Driver
	}
	return nil
}

// add appends e, and takes it over only once it is on disk.
func (r *record) add(e entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.append(e)
}

func (r *record) append(e entry) error {
	if r.log == nil {
		return &StateError{State: StateCreating, Reason: "it has no record yet"}
	}
	e.At = time.Now()
	if e.Driver == nil && r.next != nil {
		raw, err := compact.Marshal(r.next.state)
		if err != nil {
			return err
		}
		e.Driver = raw
	}
	if err := r.log.Append(&e); err != nil {
		return err
	}
	r.next = nil
	return r.apply(e)
}

// longRecord is how long a record may become, in bytes, before its lines are made
// one: an agent that claims knobs again and again adds a megabyte a day.
const longRecord = 64 << 10

// shorten makes one line of many. The caller has its turn. On a full disk they stay
// as they are.
func (r *record) shorten() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log == nil || r.log.Size() < max(longRecord, 4*r.short) {
		return
	}
	if r.phase != phaseCreated || r.cut != nil || r.reshape != nil || r.act != "" {
		return // what was begun and not ended is told by several lines
	}
	all := entry{
		Version: recordVersion, Boot: r.boot, Spec: &r.first, At: r.created, Phase: r.phase,
		Updated: &r.spec.Resources, Driver: r.driver,
	}
	if len(r.layers.Claims) > 0 {
		all.Layers = &r.layers
	}
	if !r.spec.Network.IsZero() {
		all.Network = &r.spec.Network
	}
	if len(r.narrow.Limits) > 0 {
		all.Narrowed = &r.narrow
	}
	if r.log.Replace(all) == nil {
		r.short = r.log.Size()
	}
}

func (r *record) save(v any) error {
	raw, err := compact.Marshal(v)
	if err != nil {
		return err
	}
	return r.add(entry{Driver: raw})
}

// later is save with the next line that is added, or with flush. v must not change
// any more.
func (r *record) later(v any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = &unsaved{v}
}

// unsaved is a state of the driver that has no line yet.
type unsaved struct{ state any }

// flush adds a line for what later has left, unless one was added since. Who
// wants to add another line at the same time goes first, and takes it along.
func (r *record) flush() error {
	r.mu.Lock()
	next := r.next
	r.mu.Unlock()
	if next == nil {
		return nil
	}
	raw, err := compact.Marshal(next.state)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != next {
		return nil
	}
	return r.append(entry{Driver: raw})
}

func (r *record) saved() json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.driver
}

// replace takes over what another process made of the same record.
func (r *record) replace(other *record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.log
	r.log, r.spec, r.phase, r.driver = other.log, other.spec, other.phase, other.driver
	r.cut, r.updates, r.layers = other.cut, other.updates, other.layers
	r.reshape, r.narrow, r.act, r.forks = other.reshape, other.narrow, other.act, other.forks
	return old.Close()
}

// asked is the spec that the sandbox was created with.
func (r *record) asked() Spec { return r.first }

// current is the spec with the resources that hold.
func (r *record) current() Spec {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spec.Clone()
}

// resources are those that were acknowledged last, with a number that grows with
// each update; pending says that one is under way, or was when its process died.
func (r *record) resources() (res cgroups.Resources, updates uint64, pending bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spec.Resources.Clone(), r.updates, r.cut != nil
}

// steady has claims end when they would if nobody had set the clock since they were
// made.
func (r *record) steady(c clock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, up := c.now(), c.uptime()
	r.layers.Claims = slices.Clone(r.layers.Claims)
	for i := range r.layers.Claims {
		if l := &r.layers.Claims[i]; l.Ends > 0 && up > 0 {
			l.Until = now.Add(l.Ends - up)
		}
	}
	if n := &r.narrow; n.Ends > 0 && up > 0 {
		n.Until = now.Add(n.Ends - up)
	}
}

// ends is when the first claim does, or what a controller has limited the network to;
// zero if nothing ends.
func (r *record) ends() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, n := r.layers.ends(), r.narrow.ends()
	if first.IsZero() || !n.IsZero() && n.Before(first) {
		return n
	}
	return first
}

// narrowed is what a controller has limited the network to.
func (r *record) narrowed() narrowing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.narrow
}

// network is whose network the sandbox has.
func (r *record) network() netns.Mode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spec.Network.Mode
}

// interfaces are those of its network, with the limits that were acknowledged. They
// must not be changed.
func (r *record) interfaces() []netns.Interface {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spec.Network.Interfaces
}

// claims are who holds which knobs.
func (r *record) claims() layers {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.layers
}

// cutOff is the update that was begun and not ended, or nil.
func (r *record) cutOff() *interrupted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cut
}

// begun are the change of network limits and the act that were begun and not
// ended; nil and empty if there are none.
func (r *record) begun() (*reshape, act) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reshape, r.act
}

// beforeKill is the pids.max before the last kill, if no line tells of it.
func (r *record) beforeKill() cgroups.Resources {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.forks
}

func (r *record) at() phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.phase
}

// remove deletes the log.
func (r *record) remove() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Remove()
}

// close frees the log's descriptor.
func (r *record) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log == nil {
		return nil
	}
	return r.log.Close()
}
