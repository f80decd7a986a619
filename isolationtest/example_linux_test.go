// SPDX-License-Identifier: Apache-2.0

package isolationtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolationtest"
)

// A driver of one's own is held to the contract by one test, beside a TestMain as
// the package comment shows.
func ExampleDriver() {
	_ = func(t *testing.T) {
		isolationtest.Driver(t, func(t testing.TB, at isolationtest.Place) isolation.Driver {
			var mine isolation.Driver // made with at.Dir and at.Parent
			return mine
		}, isolationtest.DriverOptions{
			Refused: map[string]func(*isolation.Spec){
				"terminal": func(s *isolation.Spec) { s.Process.Terminal = true },
			},
		})
	}
}

// Does a service feel a memory hog and threads that compute? Its load generator writes
// a line "latency 1.7ms" for each request.
func ExampleRun() {
	parse := func(line string) (time.Duration, bool) {
		text, ok := strings.CutPrefix(line, "latency ")
		d, err := time.ParseDuration(text)
		return d, ok && err == nil
	}
	_ = func(t *testing.T) {
		victim := isolationtest.Command(parse, "/srv/bench", "--rate=500")
		victim.Spec.Class = elastic.LatencyCritical
		hog := isolationtest.MemoryHog(1 << 30)
		hog.Resources.Memory.Max = cgroups.Bytes(512 << 20)
		isolationtest.Run(t, isolationtest.Experiment{
			Victim:      victim,
			Antagonists: []isolation.Spec{hog, isolationtest.CPUHog(4)},
			Expect:      []isolationtest.Expectation{isolationtest.P99Within(1.2)},
		})
	}
}

// Does a controller keep a service fast, and lend out half a CPU all the same? Its host
// is the experiment's.
func ExampleRun_controller() {
	_ = func(t *testing.T) {
		host, err := isolation.Open(t.Context(), isolation.Config{Root: t.TempDir(), Parent: "agent-test"})
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		ctl, err := elastic.Start(t.Context(), host, elastic.Config{Policies: elastic.Defaults()})
		if err != nil {
			t.Fatal(err)
		}
		defer ctl.Close()
		isolationtest.Run(t, isolationtest.Experiment{
			Host:        host,
			Victim:      isolationtest.Pulse(10*time.Millisecond, 2*time.Millisecond),
			Antagonists: []isolation.Spec{isolationtest.CPUHog(8)},
			Expect:      []isolationtest.Expectation{isolationtest.P99Within(1.5), isolationtest.AntagonistsUse(0.5)},
		})
	}
}
