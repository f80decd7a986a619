// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shrinker is a kind of kernel that limits are lowered on.
type shrinker struct {
	name    string
	version int
	reclaim bool
	limit   string
}

var shrinkers = []shrinker{
	{"v2", 2, true, maxFile}, {"v2 without memory.reclaim", 2, false, maxFile}, {"v1", 1, false, limitV1},
}

// each runs test on a group of each kind, 24 MiB of cache and 8 MiB of
// anonymous memory in use, in a bubble where time costs nothing.
func (s shrinker) each(t *testing.T, test func(t *testing.T, f *fakeTree)) {
	t.Helper()
	t.Run(s.name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, s.version)
			f.noReclaim = !s.reclaim
			f.anon, f.cache = 8<<20, 24<<20
			f.files[highFile] = "50331648"
			if s.version == 1 {
				delete(f.files, highFile)
			}
			test(t, f)
		})
	})
}

func shrinkFake(ctx context.Context, f *fakeTree, to uint64, cfg UpdateConfig) (Change, error) {
	changes, err := plan(fakePage, []group{{f, "fake", &Resources{Memory: Memory{Max: Bytes(to)}}}}, cfg)
	if err != nil {
		return Change{}, err
	}
	if err := apply(ctx, changes); err != nil {
		return Change{}, err
	}
	return changes[len(changes)-1], nil
}

// TestShrinkGradual comes down, and leaves no memory.high behind that nobody asked
// for (enhancements-2570, containarium-1454).
func TestShrinkGradual(t *testing.T) {
	for _, s := range shrinkers {
		s.each(t, func(t *testing.T, f *fakeTree) {
			const to = 16 << 20
			high := f.files[highFile]
			ch, err := shrinkFake(t.Context(), f, to, UpdateConfig{})
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(to), f.files[s.limit])
			require.Equal(t, high, f.files[highFile])
			require.LessOrEqual(t, f.anon+f.cache, uint64(to))
			require.NotNil(t, ch.Shrunk)
			assert.Equal(t, uint64(32<<20), ch.Shrunk.Before)
			assert.Equal(t, f.anon+f.cache, ch.Shrunk.After)
			assert.Equal(t, ch.Shrunk.Before-ch.Shrunk.After, ch.Shrunk.Reclaimed)
			assert.Greater(t, ch.Shrunk.Steps, 4)
			assert.Less(t, ch.Shrunk.Took, time.Second)
			assert.Contains(t, ch.Why, "33554432 bytes are in use: it comes down in steps")
			// A lowered memory.high is put back by the very next write.
			for i, w := range f.writes {
				if strings.HasPrefix(w, highFile) && w != highFile+"="+high {
					require.Equal(t, highFile+"="+high, f.writes[i+1])
				}
			}
			require.Equal(t, !s.reclaim && s.version == 2, slices.ContainsFunc(f.writes, func(w string) bool { return strings.HasPrefix(w, highFile) }))
		})
	}
}

// TestShrinkSwaps takes away anonymous memory that there is swap for.
func TestShrinkSwaps(t *testing.T) {
	for _, s := range shrinkers {
		s.each(t, func(t *testing.T, f *fakeTree) {
			f.anon, f.cache = 32<<20, 0
			_, err := shrinkFake(t.Context(), f, 16<<20, UpdateConfig{})
			require.ErrorIs(t, err, ErrInUse)
			require.Empty(t, f.writes, "without swap there is nothing to try")
			f.swap = 64 << 20
			_, err = shrinkFake(t.Context(), f, 16<<20, UpdateConfig{})
			require.NoError(t, err)
		})
	}
}

// TestShrinkStops has each thing happen during a shrink that stops it. All is
// put back then.
func TestShrinkStops(t *testing.T) {
	stalling := func(some, full time.Duration) func(*fakeTree) {
		return func(f *fakeTree) {
			f.onReclaim = func() {
				f.pressure.Some.Total += some
				f.pressure.Full.Total += full
			}
		}
	}
	for name, tc := range map[string]struct {
		happens func(f *fakeTree)
		stop    ShrinkStop
		in      time.Duration
	}{
		"full pressure": {stalling(0, 300*time.Millisecond), StoppedByPressure, time.Second},
		"some pressure": {stalling(600*time.Millisecond, 0), StoppedByPressure, time.Second},
		"pressure that never ends, below the threshold": {func(f *fakeTree) {
			f.stalling, f.since = 0.2, time.Now()
		}, StoppedNoProgress, 2 * time.Second},
		"refaults, without pressure": {func(f *fakeTree) {
			f.noPressure = true
			f.onReclaim = func() { f.refaults += 5 << 20 >> 12 }
		}, StoppedByRefaults, time.Second},
		"nothing is reclaimed": {func(f *fakeTree) { f.stuck = true }, StoppedNoProgress, 2 * time.Second},
		"it grows": {func(f *fakeTree) {
			f.onReclaim = func() { f.anon += 2 << 20 }
		}, StoppedUnreclaimable, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range shrinkers {
				s.each(t, func(t *testing.T, f *fakeTree) {
					tc.happens(f)
					before, start := f.state(), time.Now()
					_, err := shrinkFake(t.Context(), f, 16<<20, UpdateConfig{})
					var stopped *ShrinkError
					require.ErrorAs(t, err, &stopped)
					assert.Equal(t, tc.stop, stopped.Stop, "%v", err)
					require.ErrorIs(t, err, ErrInUse)
					require.Equal(t, before, f.state())
					assert.Less(t, time.Since(start), tc.in)
					assert.Equal(t, uint64(16<<20), stopped.Limit)
					assert.NotZero(t, stopped.After)
					var u *UpdateError
					require.ErrorAs(t, err, &u)
					require.NoError(t, u.Undo)
				})
			}
		})
	}
}

// TestShrinkDeadline ends the context in the middle.
func TestShrinkDeadline(t *testing.T) {
	for _, s := range shrinkers {
		s.each(t, func(t *testing.T, f *fakeTree) {
			ctx, cancel := context.WithTimeout(t.Context(), 35*time.Millisecond)
			defer cancel()
			before := f.state()
			_, err := shrinkFake(ctx, f, 16<<20, UpdateConfig{})
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotErrorIs(t, err, ErrInUse)
			var stopped *ShrinkError
			require.ErrorAs(t, err, &stopped)
			assert.Equal(t, StoppedByContext, stopped.Stop)
			require.Equal(t, before, f.state())
		})
	}
}

// TestShrinkThrashes has the group suffer only once all is done: the limit is
// put back then, too.
func TestShrinkThrashes(t *testing.T) {
	for _, s := range shrinkers {
		s.each(t, func(t *testing.T, f *fakeTree) {
			before := f.state()
			f.fault = func(_ int, file string) (error, bool) {
				if file == s.limit && f.anon+f.cache <= 16<<20 && f.stalling == 0 {
					f.stalling, f.since = 1, time.Now()
				}
				return nil, true
			}
			_, err := shrinkFake(t.Context(), f, 16<<20, UpdateConfig{})
			var stopped *ShrinkError
			require.ErrorAs(t, err, &stopped)
			assert.Equal(t, StoppedByPressure, stopped.Stop)
			require.Equal(t, before, f.state())
		})
	}
}

// TestShrinkFaults lets each write of a shrink fail.
func TestShrinkFaults(t *testing.T) {
	for _, s := range shrinkers {
		s.each(t, func(t *testing.T, f *fakeTree) {
			whole := f.clone()
			_, err := shrinkFake(t.Context(), whole, 16<<20, UpdateConfig{})
			require.NoError(t, err)
			before := f.state()
			for i := range whole.writes {
				for _, takes := range []bool{false, true} {
					if takes && f.noReclaim && strings.HasPrefix(whole.writes[i], reclaimFile) {
						continue // there is no such file
					}
					g := f.clone()
					g.fault = func(n int, _ string) (error, bool) {
						if n == i {
							return errInjected, takes
						}
						return nil, true
					}
					_, err := shrinkFake(t.Context(), g, 16<<20, UpdateConfig{})
					require.ErrorIs(t, err, errInjected)
					var u *UpdateError
					require.ErrorAs(t, err, &u)
					require.NoError(t, u.Undo)
					require.Equal(t, before, g.state(), "write %d, takes effect: %t", i, takes)
				}
			}
		})
	}
}

func TestShrinkRefuse(t *testing.T) {
	for _, s := range shrinkers {
		s.each(t, func(t *testing.T, f *fakeTree) {
			_, err := shrinkFake(t.Context(), f, 16<<20, UpdateConfig{Shrink: Refuse})
			var use *InUseError
			require.ErrorAs(t, err, &use)
			require.Equal(t, &InUseError{Knob: maxFile, Limit: 16 << 20, Usage: 32 << 20}, use)
			require.Empty(t, f.writes)
			ch, err := shrinkFake(t.Context(), f, 33<<20, UpdateConfig{Shrink: Refuse})
			require.NoError(t, err)
			require.Nil(t, ch.Shrunk)

			// The group grows between the plan and the write.
			before := f.state()
			changes, err := plan(fakePage, []group{{f, "fake", &Resources{Memory: Memory{Max: Bytes(32 << 20)}}}}, UpdateConfig{Shrink: Refuse})
			require.NoError(t, err)
			f.anon += 26 << 20
			require.ErrorIs(t, apply(t.Context(), changes), ErrInUse)
			require.Equal(t, before, f.state())
		})
	}
}

func TestShrinkForce(t *testing.T) {
	for _, s := range shrinkers {
		s.each(t, func(t *testing.T, f *fakeTree) {
			f.mayKill = true
			ch, err := shrinkFake(t.Context(), f, 4<<20, UpdateConfig{Shrink: Force})
			if s.version == 1 {
				require.ErrorIs(t, err, ErrInUse)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{"memory.max=4194304"}, f.writes)
			require.Contains(t, ch.Why, "kills")
		})
	}
}

func TestUpdateConfig(t *testing.T) {
	require.NoError(t, UpdateConfig{}.Validate())
	require.NoError(t, UpdateConfig{Shrink: Force, Guard: Guard{Window: 10 * time.Second, Full: 10 * time.Second}}.Validate())
	for _, bad := range []UpdateConfig{
		{Shrink: Force + 1}, {Guard: Guard{Window: -1}}, {Guard: Guard{Some: -1}}, {Guard: Guard{Full: 2 * time.Second}},
		{Guard: Guard{Window: 2 * time.Hour}},
	} {
		require.ErrorIs(t, bad.Validate(), ErrInvalid, "%+v", bad)
	}
	assert.Equal(t, Guard{4 * time.Second, 2 * time.Second, time.Second}, Guard{Window: 4 * time.Second}.withDefaults())
	for _, s := range []Shrink{Gradual, Refuse, Force} {
		text, err := json.Marshal(s)
		require.NoError(t, err)
		var back Shrink
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, s, back)
	}
	require.ErrorIs(t, new(Shrink).UnmarshalText([]byte("gently")), ErrInvalid)

	err := error(&ShrinkError{
		Knob: maxFile, Limit: 5, Stays: 3, Stop: StoppedByPressure, Err: errors.New("x"),
		Shrunk: Shrunk{After: 9, Steps: 2, Some: time.Second, Full: time.Millisecond, Took: 3 * time.Second},
	})
	require.EqualError(t, err, "memory.max 5: pressure: 9 in use after 2 steps in 3s, of it 3 unreclaimable; tasks waited 1s for memory, all of them 1ms: x")
}
