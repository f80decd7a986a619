// SPDX-License-Identifier: Apache-2.0

//go:build !race

package netns

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The race detector makes more things escape.
func TestStatsAllocations(t *testing.T) {
	root(t)
	h, _ := fresh(t)
	var st LinkStats
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := h.Stats(Loopback, &st); err != nil {
			t.Error(err)
		}
	}))
}
