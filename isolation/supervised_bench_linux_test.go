// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"slices"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/require"
)

// BenchmarkStart is a Start as a child of the agent and as one of the supervisor's.
// There is a pause in front of each, as there is in front of one in earnest.
func BenchmarkStart(b *testing.B) {
	testutil.Require(b, testutil.Root)
	for _, bench := range []struct {
		name string
		cfg  isolation.Config
	}{{"direct", config(b)}, {"supervised", supervisedConfig(b)}} {
		b.Run(bench.name, func(b *testing.B) {
			h := openWith(b, bench.cfg)
			first := started(b, h, spec(b, "first", "wait")) // and with it the supervisor
			var times []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := create(b, h, spec(b, "x", "exit", "0"))
				time.Sleep(5 * time.Millisecond)
				b.StartTimer()
				begin := time.Now()
				err := s.Start(b.Context())
				times = append(times, time.Since(begin))
				b.StopTimer()
				require.NoError(b, err)
				_, err = s.Wait(b.Context())
				require.NoError(b, err)
				require.NoError(b, s.Destroy(b.Context()))
				b.StartTimer()
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "us/median")
			b.ReportMetric(float64(times[0].Microseconds()), "us/min")
			require.NoError(b, first.Destroy(b.Context()))
		})
	}
}
