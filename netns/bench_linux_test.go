// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkCreate makes networks with a pause after each, in which the kernel takes
// the last one apart and the next is made ready.
func BenchmarkCreate(b *testing.B) {
	for name, warm := range map[string]int{"cold": 0, "warm": 4} {
		b.Run(name, func(b *testing.B) {
			l := newLab(b, func(c *Config) {
				c.Warm = warm
				for i := range c.Pools {
					c.Pools[i].Quarantine = time.Millisecond
				}
			})
			l.bridge()
			spec := bridged()
			spec.Interfaces[0].Bandwidth = Bandwidth{Egress: BitsPerSecond(1e9), Ingress: BitsPerSecond(1e9)}
			for b.Loop() {
				b.StopTimer()
				time.Sleep(25 * time.Millisecond)
				b.StartTimer()
				a, err := l.Create(l.ctx, "web", spec)
				b.StopTimer()
				require.NoError(b, err)
				require.NoError(b, a.Close())
				require.NoError(b, l.Destroy(l.ctx, "web"))
				b.StartTimer()
			}
		})
	}
}
