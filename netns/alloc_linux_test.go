// SPDX-License-Identifier: Apache-2.0

//go:build !race

package netns

import (
	"errors"
	"os"
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

func TestStatAllocations(t *testing.T) {
	l := newLab(t, nil)
	l.bridge()
	a := l.create("web", bridged())
	serve(t, a, "web")
	var st InterfaceStats
	require.NoError(t, a.Stat("", &st))
	assert.Zero(t, st.Egress, "no limit")
	if err := a.SetBandwidth(l.ctx, "", Bandwidth{Egress: BitsPerSecond(1e9), Ingress: BitsPerSecond(1e9)}); errors.Is(err, ErrNotSupported) {
		testutil.Skip(t, "tbf", "%v", err)
	}
	reach(t, "machine", l.machine, a, "web")
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := a.Stat("eth0", &st); err != nil {
			t.Error(err)
		}
	}))
	assert.Positive(t, st.Egress.Packets)
	assert.Positive(t, st.Ingress.Bytes)
	assert.Positive(t, st.Link.RxBytes)
	assert.ErrorIs(t, a.Stat("eth9", &st), os.ErrNotExist)
	require.NoError(t, a.Close())
	assert.ErrorIs(t, a.Stat("", &st), os.ErrClosed)
}
