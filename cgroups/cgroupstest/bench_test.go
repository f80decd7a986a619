// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/stretchr/testify/require"
)

// BenchmarkUpdate is a plan of ten writes, applied and read back.
func BenchmarkUpdate(b *testing.B) {
	for name, layout := range map[string]Layout{"v1": V1, "v2": V2} {
		b.Run(name, func(b *testing.B) {
			f := New(b, layout)
			web, err := f.Root().Create("web", 0)
			require.NoError(b, err)
			defer web.Close()
			var both [2]cgroups.Resources
			for i := range both {
				n := 1 + i
				both[i] = cgroups.Resources{
					CPU:    cgroups.CPU{Weight: cgroups.WeightOf(uint16(n * 100)), Max: cgroups.CPUs(float64(n)), Burst: cgroups.DurationOf(time.Duration(n) * time.Millisecond)},
					CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(i)},
					Memory: cgroups.Memory{Max: cgroups.Bytes(uint64(n) << 30), Swap: cgroups.Bytes(uint64(n) << 20)},
					IO:     cgroups.IO{Devices: []cgroups.IODevice{{Device: cgroups.Device{Major: 8}, ReadBytes: cgroups.Bytes(uint64(n) << 20), WriteOps: cgroups.Count(uint64(n))}}},
					PIDs:   cgroups.PIDs{Max: cgroups.Count(uint64(n))},
				}
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := web.Update(b.Context(), both[i%2]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
