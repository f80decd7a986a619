// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"bytes"
	"compress/gzip"
	"embed"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The traces were recorded on a machine with two CPUs that was busy with other
// things: mixed is a throttled service, one that writes to its disk, and CPU-bound,
// idle, writing and growing batch work; hog is a service and batch work that grows
// into a limit of 224 MiB for all; kernel is examples/colocate with CPUConfine,
// beside others that took more and more; uplink is examples/uplink, the way queue.
//
//go:embed testdata/*.jsonl.gz testdata/*.golden
var recorded embed.FS

var traces = []string{"mixed", "hog", "kernel", "uplink"}

var updateGolden = flag.Bool("update", false, "write what is decided now to the golden files")

// recordedPolicies are the settings of the run that made a trace, in its order.
func recordedPolicies(trace string) []Policy {
	if trace == "kernel" {
		return []Policy{&CPUSuppress{Share: 1}, &CPUBurst{}, &MemoryGuard{}, &IOGuard{}, &CPUConfine{}}
	}
	if trace == "uplink" {
		return []Policy{&NetworkGuard{}}
	}
	floor := 1.0
	if trace == "hog" {
		floor = 2
	}
	return []Policy{
		&CPUSuppress{Share: 1, Floor: floor}, &CPUBurst{Idle: 2}, &MemoryGuard{Patience: 2 * time.Second, Calm: 3 * time.Second},
		&IOGuard{Stall: 0.05}, &Offload{Ratio: 0.02, Period: 2 * time.Second},
	}
}

func replayed(t *testing.T, trace string, policies ...Policy) []Replayed {
	t.Helper()
	f, err := recorded.Open("testdata/" + trace + ".jsonl.gz")
	require.NoError(t, err)
	defer f.Close()
	in, err := gzip.NewReader(f)
	require.NoError(t, err)
	planner, err := NewPlanner(policies, 0)
	require.NoError(t, err)
	var list []Replayed
	for r, err := range Replay(ReadTrace(in), planner) {
		require.NoError(t, err)
		list = append(list, r)
	}
	require.NotEmpty(t, list)
	return list
}

// TestGoldenTraces has each policy decide about what was recorded as it did when
// its golden file was written. After a change that is meant, run with -update and
// read the difference.
func TestGoldenTraces(t *testing.T) {
	for _, trace := range traces {
		for _, p := range recordedPolicies(trace) {
			t.Run(trace+"/"+p.Name(), func(t *testing.T) {
				var got bytes.Buffer
				for _, r := range replayed(t, trace, p) {
					for _, c := range r.Planned {
						fmt.Fprintf(&got, "%v %s %s", r.Snapshot.At.Round(100*time.Millisecond), c.Rung, c.Sandbox)
						if cpus, ok := c.Resources.CPU.Max.CPUs(); ok {
							fmt.Fprintf(&got, " cpu.max %.2f", cpus)
						}
						if set := c.Resources.CPUSet.CPUs; !set.IsZero() {
							fmt.Fprintf(&got, " cpuset.cpus %s", set)
						}
						for _, d := range c.Resources.IO.Devices {
							fmt.Fprintf(&got, " io.max %s %v", d.Device, d.WriteBytes)
						}
						for _, l := range c.Network {
							rate, _ := l.Egress.Value()
							fmt.Fprintf(&got, " %s egress %.3f Mbit/s", l.Link, float64(rate)/1e6)
						}
						if c.Bytes > 0 {
							fmt.Fprintf(&got, " %d bytes", c.Bytes)
						}
						if c.Refused != "" {
							fmt.Fprintf(&got, " refused: %s", c.Refused)
						}
						fmt.Fprintf(&got, ": %s\n", c.Reason)
					}
				}
				name := "testdata/" + trace + "." + p.Name() + ".golden"
				if *updateGolden {
					require.NoError(t, os.WriteFile(name, got.Bytes(), 0o600))
					return
				}
				want, err := fs.ReadFile(recorded, name)
				require.NoError(t, err)
				assert.Equal(t, string(want), got.String())
			})
		}
	}
}

// TestReplayIsLive replays with the policies and settings of the recorded run: it
// decides what was decided then. Not so cpu-suppress, which ignores more than it did
// when the older ones were recorded.
func TestReplayIsLive(t *testing.T) {
	for _, trace := range traces {
		decisions, changed := 0, ""
		if trace == "mixed" || trace == "hog" {
			changed = (&CPUSuppress{}).Name()
		}
		for _, r := range replayed(t, trace, recordedPolicies(trace)...) {
			var live, again []Correction
			for _, d := range r.Decisions {
				if d.State != CameTrue && d.State != Missed && d.Policy != changed {
					live = append(live, rounded(d.Correction))
				}
			}
			for _, p := range r.Planned {
				if p.Policy != changed {
					again = append(again, rounded(p.Correction))
				}
			}
			require.Equal(t, live, again, "%s at %v", trace, r.Snapshot.At)
			decisions += len(live)
		}
		assert.Greater(t, decisions, 5, trace)
	}
}

// rounded is without the last bits of what is expected, which differ from one
// machine to another: some multiply and add in one step.
func rounded(c Correction) Correction {
	c.Expect.Least = math.Round(c.Expect.Least*1e6) / 1e6
	c.Expect.Most = math.Round(c.Expect.Most*1e6) / 1e6
	return c
}
