// SPDX-License-Identifier: Apache-2.0

package supervisor_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/caisson-run/caisson/isolation/supervisor"
)

// TestMainStartedByHand: it takes nothing for its socket, and returns.
func TestMainStartedByHand(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		t.Setenv("CAISSON_SUPERVISOR", dir)
		assert.Equal(t, 2, supervisor.Main())
	}
}
