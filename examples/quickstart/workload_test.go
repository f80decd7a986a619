// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestWorkloadArguments(t *testing.T) {
	for _, bad := range [][]string{{}, {"1"}, {"0", "1s", ""}, {"x", "1s", ""}, {"1", "x", ""}, {"1", "1s", "", ""}} {
		assert.False(t, runWorkload("service", bad), "%q", bad)
	}
	assert.False(t, runWorkload("nonsense", []string{"1", "1s", ""}))
}

func TestComputeChangesTheSet(t *testing.T) {
	set := make([]byte, 1<<20)
	compute(set, 3, rand.New(rand.NewPCG(1, 1)))
	zeros := 0
	for _, b := range set {
		if b == 0 {
			zeros++
		}
	}
	assert.Less(t, zeros, len(set))
	assert.GreaterOrEqual(t, zeros, len(set)-3*32)
}

func TestSize(t *testing.T) {
	for n, want := range map[float64]string{0: "0B", 1023: "1023B", 2048: "2K", 3 << 20: "3M", 5 << 30: "5.0G"} {
		assert.Equal(t, want, size(n))
	}
}

func TestSummaryIsTheMiddle(t *testing.T) {
	var tab table
	for _, v := range []int{900, 1, 3, 2} {
		tab.lines = append(tab.lines, line{figures: figures{P99: time.Duration(v)}, pressure: float64(v)})
	}
	got := tab.summary()
	assert.Equal(t, time.Duration(2), got.P99)
	assert.InDelta(t, 2, got.pressure, 0)
	assert.Zero(t, (&table{}).summary())
}
