// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/json"
	"math"
	"os/exec"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What iperf3 measures is what was asked for, within a tenth, in both directions.
// (TestRates is the same with a sender of its own, and runs everywhere.)
func TestIperf3(t *testing.T) {
	l := newLab(t, nil)
	tool, err := exec.LookPath("iperf3")
	if err != nil {
		testutil.Skip(t, "iperf3", "%v", err)
	}
	l.bridge()
	const rate = 20e6
	spec := bridged()
	spec.Interfaces[0].Bandwidth = Bandwidth{Egress: BitsPerSecond(rate), Ingress: BitsPerSecond(2 * rate)}
	a := l.create("web", spec)
	server := exec.CommandContext(l.ctx, tool, "-s", "-p", "5201")
	require.NoError(t, namespaces.Do(server.Start, a.Namespace()))
	t.Cleanup(func() { _, _ = server.Process.Kill(), server.Wait() })
	addr := a.Addrs()[0].Addr()
	require.Eventually(t, func() bool {
		out := exec.CommandContext(l.ctx, tool, "-c", addr.String(), "-n", "1K", "--connect-timeout", "500")
		return namespaces.Do(out.Run, l.machine) == nil
	}, testutil.Patience(5*time.Second), 20*time.Millisecond)
	measure := func(args ...string) float64 {
		// The burst of the beginning does not count.
		cmd := exec.CommandContext(l.ctx, tool, append([]string{"-c", addr.String(), "-J", "-t", "1", "-O", "1"}, args...)...)
		var out []byte
		err := namespaces.Do(func() (err error) { out, err = cmd.Output(); return err }, l.machine)
		require.NoError(t, err, "%s", out)
		var report struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			} `json:"end"`
		}
		require.NoError(t, json.Unmarshal(out, &report))
		return report.End.Received.Rate
	}
	for want, args := range map[float64][]string{2 * rate: nil, rate: {"-R"}} {
		got := measure(args...)
		for try := 0; math.Abs(got-want) > 0.1*want && try < 3; try++ { // a busy machine may be slower, and then catch up
			got = measure(args...)
		}
		assert.InEpsilon(t, want, got, 0.1, "%v", args)
		t.Logf("asked for %.0f Mbit/s, measured %.1f", want/1e6, got/1e6)
	}
}
