// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// Estimator tells how much of the machine can be lent to best-effort work now,
// and taken back at any moment: what there is, without what everybody else has
// been seen to need. It watches the sum over all others, since their peaks do not
// fall together; a sandbox that is too young to have been seen at its peak counts
// with what its owner asked for.
//
// The numbers are Koordinator's: percentiles of a decaying histogram, with a
// margin. The zero EstimatorConfig has the defaults given at each field.
type Estimator struct {
	cfg    EstimatorConfig
	cpu    *Histogram // CPUs in use by all that is not best effort
	memory *Histogram // bytes, likewise
	seen   map[string]time.Time
	offer  Offer
}

// EstimatorConfig is how cautious an [Estimator] is.
type EstimatorConfig struct {
	CPUHalfLife    time.Duration // 0 is 12 h
	MemoryHalfLife time.Duration // 0 is 24 h
	CPUQuantile    float64       // 0 is 0.95
	MemoryQuantile float64       // 0 is 0.98
	Margin         float64       // on top of the percentile; 0 is 0.10
	ColdStart      time.Duration // how long must be watched for full confidence; 0 is 24 h
	Young          time.Duration // up to which age a sandbox counts with what was asked for; 0 is 10 min
}

// Offer is what may be lent out as revocable.
type Offer struct {
	CPU    float64 `json:"cpu"`    // CPUs
	Memory uint64  `json:"memory"` // bytes

	// Confidence is how much of ColdStart has been watched, 0 to 1.
	Confidence float64 `json:"confidence"`

	// Reason says in words how the figures came about.
	Reason string `json:"reason"`
}

func (c EstimatorConfig) withDefaults() EstimatorConfig {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	share := func(f *float64, to float64) {
		if !(*f > 0) {
			*f = to
		}
	}
	set(&c.CPUHalfLife, 12*time.Hour)
	set(&c.MemoryHalfLife, 24*time.Hour)
	set(&c.ColdStart, 24*time.Hour)
	set(&c.Young, 10*time.Minute)
	share(&c.CPUQuantile, 0.95)
	share(&c.MemoryQuantile, 0.98)
	share(&c.Margin, 0.10)
	return c
}

// NewEstimator makes an estimator that has seen nothing.
func NewEstimator(cfg EstimatorConfig) *Estimator {
	cfg = cfg.withDefaults()
	return &Estimator{
		cfg:    cfg,
		cpu:    NewHistogram(0.01, cfg.CPUHalfLife),
		memory: NewHistogram(1<<20, cfg.MemoryHalfLife),
		seen:   make(map[string]time.Time),
	}
}

// Observe takes the next snapshot into account.
func (e *Estimator) Observe(s *Snapshot) {
	if s.Elapsed <= 0 {
		return
	}
	m := &s.Machine
	cpu, memory := m.CPU, float64(m.Memory-min(m.Free, m.Memory))
	seen := make(map[string]time.Time, len(s.Sandboxes))
	youngCPU, youngMemory := 0.0, 0.0
	for i := range s.Sandboxes {
		u := &s.Sandboxes[i]
		if u.Class == BestEffort {
			cpu -= u.CPU
			memory -= float64(u.Memory - min(u.File, u.Memory))
			continue
		}
		since, known := e.seen[u.ID]
		if !known {
			since = s.Time
		}
		seen[u.ID] = since
		if s.Time.Sub(since) < e.cfg.Young {
			youngCPU += max(0, u.CPUBase-u.CPU)
			youngMemory += float64(max(u.MemoryMax, u.MemoryMin) - min(u.Memory, max(u.MemoryMax, u.MemoryMin)))
		}
	}
	e.seen = seen
	cpu, memory = max(0, cpu), max(0, memory)
	e.cpu.Add(cpu, s.Time)
	e.memory.Add(memory, s.Time)

	more := 1 + e.cfg.Margin
	needCPU := max(cpu, e.cpu.Percentile(e.cfg.CPUQuantile))*more + youngCPU
	needMemory := max(memory, e.memory.Percentile(e.cfg.MemoryQuantile))*more + youngMemory
	e.offer = Offer{
		CPU:        max(0, m.CPUs-needCPU),
		Memory:     uint64(max(0, float64(m.Memory)-needMemory)),
		Confidence: min(1, float64(e.cpu.Age())/float64(e.cfg.ColdStart)),
		Reason: fmt.Sprintf("of %.0f CPUs the others need %.2f (%.2f more for young sandboxes), of %d MiB they need %.0f (%.0f)",
			m.CPUs, needCPU, youngCPU, m.Memory>>20, needMemory/(1<<20), youngMemory/(1<<20)),
	}
}

// Revocable is the offer as of the last snapshot.
func (e *Estimator) Revocable() Offer { return e.offer }

type estimatorJSON struct {
	Version int                  `json:"version"`
	CPU     *Histogram           `json:"cpu"`
	Memory  *Histogram           `json:"memory"`
	Seen    map[string]time.Time `json:"seen,omitempty"`
}

// MarshalJSON writes what the estimator has learned, for the next process.
func (e *Estimator) MarshalJSON() ([]byte, error) {
	return json.Marshal(estimatorJSON{1, e.cpu, e.memory, e.seen})
}

// UnmarshalJSON reads what [Estimator.MarshalJSON] wrote into an estimator from
// [NewEstimator], whose configuration stays. Half-lives that changed are an
// error, since old weights mean nothing then; so is anything that was not
// written by it. The estimator is then as before.
func (e *Estimator) UnmarshalJSON(b []byte) error {
	var j estimatorJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	bad := func(reason string) error {
		return &cgroups.InvalidError{Field: "estimator", Value: clip(b), Reason: reason}
	}
	switch {
	case j.Version != 1:
		return bad("not of version 1")
	case j.CPU == nil || j.Memory == nil:
		return bad("a histogram is missing")
	case e.cpu == nil:
		return bad("it must be read into an estimator from NewEstimator")
	case j.CPU.halfLife != e.cpu.halfLife || j.Memory.halfLife != e.memory.halfLife ||
		j.CPU.least != e.cpu.least || j.Memory.least != e.memory.least:
		return bad("it was made with other half-lives")
	}
	e.cpu, e.memory, e.seen = j.CPU, j.Memory, j.Seen
	if e.seen == nil {
		e.seen = make(map[string]time.Time)
	}
	return nil
}
