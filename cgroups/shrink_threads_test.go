// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestShrinkThreads is what users of other runtimes have reported about memory
// limits that fall, each by its thread.
func TestShrinkThreads(t *testing.T) {
	const mib = 1 << 20
	threads := map[string]func(t *testing.T, f *fakeTree, limit string){
		// A limit below what is in use: EBUSY on v1, a kill on v2.
		"runc#3509": func(t *testing.T, f *fakeTree, _ string) {
			_, err := shrinkFake(t.Context(), f, 4*mib, UpdateConfig{})
			var use *InUseError
			require.ErrorAs(t, err, &use)
			assert.Equal(t, &InUseError{Knob: maxFile, Limit: 4 * mib, Usage: 8 * mib}, use)
			require.Empty(t, f.writes)
		},
		// The usage was looked at before the write, and has grown since.
		"runc#3579": func(t *testing.T, f *fakeTree, _ string) {
			before := f.state()
			f.fault = func(n int, _ string) (error, bool) {
				if n == 0 {
					f.anon += 12 * mib
				}
				return nil, true
			}
			_, err := shrinkFake(t.Context(), f, 16*mib, UpdateConfig{})
			require.ErrorIs(t, err, ErrInUse)
			require.Equal(t, before, f.state())
		},
		// The limit does not come down, and the other knobs of the update stay.
		"runc#2812": func(t *testing.T, f *fakeTree, _ string) {
			before := f.state()
			f.stuck = true
			changes, err := planOf(f, Resources{PIDs: PIDs{Max: Count(5)}, CPU: CPU{Weight: WeightOf(7)}, Memory: Memory{Max: Bytes(16 * mib)}})
			require.NoError(t, err)
			err = apply(t.Context(), changes)
			require.ErrorIs(t, err, ErrInUse)
			require.Equal(t, before, f.state())
		},
		// The runtime is to take care that a smaller limit kills nobody. The
		// fake fails the test if it does.
		"k8s#135670": func(t *testing.T, f *fakeTree, limit string) {
			_, err := shrinkFake(t.Context(), f, 12*mib, UpdateConfig{})
			require.NoError(t, err)
			require.Equal(t, "12582912", f.files[limit])
		},
		// memory.high near the usage makes a group terribly slow: nobody who has
		// not asked for it is to have one.
		"lxd#13147": func(t *testing.T, f *fakeTree, _ string) {
			for _, happens := range []func(){
				func() { f.onReclaim = func() { f.pressure.Full.Total += 300 * time.Millisecond } },
				func() { f.stuck = true },
				func() {},
			} {
				f.cache, f.onReclaim, f.stuck = 24*mib, nil, false
				high := f.files[highFile]
				happens()
				_, _ = shrinkFake(t.Context(), f, 16*mib, UpdateConfig{})
				require.Equal(t, high, f.files[highFile])
			}
		},
		// A write that blocks in the kernel hangs the caller, and then everybody
		// who waits for him.
		"containerd#12680": func(t *testing.T, f *fakeTree, limit string) {
			before := f.state()
			f.blocks = map[string]string{maxFile: reclaimFile, limitV1: limitV1}[limit]
			if f.noReclaim && limit == maxFile {
				f.blocks = highFile
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := shrinkFake(ctx, f, 16*mib, UpdateConfig{})
			require.ErrorIs(t, err, ErrBlocked)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Second, time.Since(start))
			require.Equal(t, before, f.state())
		},
	}
	for name, test := range threads {
		t.Run(name, func(t *testing.T) {
			for _, s := range shrinkers {
				s.each(t, func(t *testing.T, f *fakeTree) { test(t, f, s.limit) })
			}
		})
	}
}
