// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
)

// BenchmarkStart starts /bin/true and waits for it; test/bench/floor is the
// same in C. Means are at the mercy of a busy machine, so the median and the
// minimum are reported besides.
func BenchmarkStart(b *testing.B) {
	testutil.Require(b, testutil.Root, testutil.UserNamespaces)
	if _, err := os.Stat("/bin/true"); err != nil {
		testutil.Skip(b, "bin-true", "%v", err)
	}
	ns5 := NewMount | NewPID | NewIPC | NewUTS | NewNet
	proc := []Mount{{Source: "proc", Target: "/proc", Type: "proc", Flags: 0xe}}
	maps := []IDMap{{0, 0, 65536}}
	for _, bench := range []struct {
		name string
		spec Spec
	}{
		{"plain", Spec{}},
		{"ns5", Spec{Namespaces: ns5, Mounts: proc}},
		{"ns5+user", Spec{Namespaces: ns5 | NewUser, Mounts: proc, UIDMaps: maps, GIDMaps: maps, Setgroups: true}},
	} {
		for _, heap := range []int{0, 1 << 10} {
			b.Run(fmt.Sprintf("%s/heap=%dMiB", bench.name, heap), func(b *testing.B) {
				ballast := make([]byte, heap<<20)
				for i := 0; i < len(ballast); i += 4096 {
					ballast[i] = 1
				}
				bench.spec.Path = "/bin/true"
				b.ReportAllocs()
				var times []time.Duration
				for b.Loop() {
					begin := time.Now()
					p, err := Compile(bench.spec)
					require.NoError(b, err)
					c, err := p.Start(context.Background())
					require.NoError(b, err)
					_, err = c.Wait()
					require.NoError(b, err)
					require.NoError(b, c.PIDFD.Close())
					times = append(times, time.Since(begin))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds()), "us/median")
				b.ReportMetric(float64(times[0].Microseconds()), "us/min")
				runtime.KeepAlive(ballast)
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	s := Spec{Path: "/proc/self/exe", Namespaces: NewMount | NewPID | NewIPC | NewUTS | NewNet, Env: os.Environ(),
		Mounts: []Mount{{Source: "proc", Target: "/proc", Type: "proc", Flags: 0xe}}, Hostname: "box", Loopback: true,
		Capabilities: &Capabilities{}, NoNewPrivs: true}
	b.ReportAllocs()
	for b.Loop() {
		_, err := Compile(s)
		require.NoError(b, err)
	}
}
