// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// How a program ended is known to an invocation that comes later.
func TestSupervise(t *testing.T) {
	c := newCLI(t)
	c.ok("create", "--supervise", "a", "--", "/bin/sh", "-c", "exit 7")
	var status isolation.Status
	require.Eventually(t, func() bool {
		c.json(&status, "check", "a")
		return status.State == isolation.StateExited
	}, testutil.Patience(20*time.Second), 10*time.Millisecond)
	require.NotNil(t, status.Exit)
	assert.True(t, status.Exit.Known)
	assert.Equal(t, 7, status.Exit.Code)
	_, _, code := c.call("run", "--supervise", "b", "--", "/bin/sh", "-c", "exit 9")
	assert.Equal(t, 9, code)
	c.fails(2, "is started by the library", "supervise")
}
