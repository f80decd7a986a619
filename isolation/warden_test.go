// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// estate is one knob that a warden looks after, and everything that happens.
type estate struct {
	*manual
	*warden
	wanted, holds string
	refuses       error // what a repair answers
	fights        bool  // somebody undoes each repair at once
	lookErr       error
	looks, writes int
	listens       int // that go on
	said          []string
}

func newEstate(t *testing.T, p DriftPolicy) *estate {
	e := &estate{manual: newManual(), wanted: "5", holds: "5"}
	e.warden = &warden{
		clock: e.manual.clock(), policy: p,
		look: func(context.Context) ([]cgroups.Drift, uint64, error) {
			e.looks++
			if e.lookErr != nil || e.holds == e.wanted {
				return nil, 1, e.lookErr
			}
			return []cgroups.Drift{{Knob: "pids.max", Path: "p", Wanted: e.wanted, Found: e.holds}}, 1, nil
		},
		repair: func(context.Context) error {
			e.writes++
			if e.refuses != nil {
				return e.refuses
			}
			e.holds = e.wanted
			if e.fights {
				e.foreign("7")
			}
			return nil
		},
		accept: func(context.Context) error {
			e.wanted = e.holds
			return e.refuses
		},
		listen: func(func()) func() {
			e.listens++
			return func() { e.listens-- }
		},
		emit: func(ev elastic.Event) {
			switch ev := ev.(type) {
			case Drift:
				word := ev.Found
				if ev.Over {
					word = "over"
				}
				e.said = append(e.said, strings.Join(strings.Fields(word+" "+ev.Did+" "+ev.Err), " "))
			case Failed:
				e.said = append(e.said, "failed: "+ev.Err.Error())
			}
		},
	}
	e.begin()
	e.pass(0)
	t.Cleanup(func() {
		assert.Equal(t, 1, e.listens)
		e.end()
		assert.Zero(t, e.listens)
	})
	return e
}

// foreign is a write of somebody else.
func (e *estate) foreign(v string) {
	e.holds = v
	e.poke()
}

func TestDriftIsReported(t *testing.T) {
	e := newEstate(t, DriftReport)
	require.Equal(t, 1, e.looks, "what was so before is told too")
	e.foreign("7")
	require.Empty(t, e.said)
	e.pass(time.Second)
	assert.Equal(t, []string{"7"}, e.said)
	e.foreign("7")
	e.pass(10 * time.Second)
	assert.Equal(t, []string{"7"}, e.said, "the same drift is told once")
	e.foreign("8")
	e.pass(10 * time.Second)
	e.foreign("5")
	e.pass(10 * time.Second)
	assert.Equal(t, []string{"7", "8", "over"}, e.said)
	assert.Zero(t, e.writes)

	e.holds = "9" // by something that no write tells of
	e.pass(driftPoll)
	assert.Equal(t, []string{"7", "8", "over", "9"}, e.said)
	assert.Equal(t, e.all()[0].Since, e.all()[0].Time, "seen for the first time now")
}

func TestDriftLooksAreFew(t *testing.T) {
	e := newEstate(t, DriftReport)
	for range 10 * 60 { // somebody writes a hundred times a second, for a minute
		for range 10 {
			e.foreign("7")
		}
		e.pass(100 * time.Millisecond)
	}
	assert.LessOrEqual(t, e.looks, 62)
	e.looks = 0
	e.pass(time.Hour)
	assert.LessOrEqual(t, e.looks, 62, "in an hour without a write")
}

func TestDriftIsUndone(t *testing.T) {
	e := newEstate(t, DriftReapply)
	e.foreign("7")
	e.pass(time.Second)
	assert.Equal(t, "5", e.holds)
	assert.Equal(t, []string{"7 reapplied"}, e.said)
	e.pass(time.Hour)
	e.foreign("8")
	e.pass(time.Second)
	assert.Equal(t, "5", e.holds)
	assert.Equal(t, 2, e.writes)
}

// TestDriftFightEnds is the storm of two controllers on one knob.
func TestDriftFightEnds(t *testing.T) {
	e := newEstate(t, DriftReapply)
	e.fights = true
	e.foreign("7")
	e.pass(10 * time.Second)
	assert.Equal(t, 3, e.writes, "at 0, 2 and 6 seconds")
	e.pass(driftQuiet - 10*time.Second)
	assert.Equal(t, driftRepairs, e.writes)
	assert.Contains(t, e.said, "7 given up")
	assert.Equal(t, "7", e.holds)
	e.pass(2 * time.Hour)
	assert.LessOrEqual(t, e.writes, 13*driftRepairs)
}

// TestDriftRefusedEnds is koordinator's retrying of what the kernel refuses, eight
// times a second.
func TestDriftRefusedEnds(t *testing.T) {
	e := newEstate(t, DriftReapply)
	e.refuses = errors.New("invalid argument")
	e.foreign("7")
	e.pass(driftQuiet)
	assert.Equal(t, driftRepairs, e.writes)
	assert.Equal(t, "7 given up invalid argument", e.said[len(e.said)-1])
	assert.Len(t, e.said, driftRepairs, "each attempt: %v", e.said)

	version := e.warden.look
	e.warden.look = func(ctx context.Context) ([]cgroups.Drift, uint64, error) {
		d, _, err := version(ctx)
		return d, 2, err
	}
	e.refuses = nil
	e.poke()
	e.pass(time.Minute)
	assert.Equal(t, "5", e.holds, "an update begins anew")
}

func TestDriftIsAccepted(t *testing.T) {
	e := newEstate(t, DriftAccept)
	e.foreign("7")
	e.pass(time.Second)
	assert.Equal(t, "7", e.wanted)
	assert.Equal(t, []string{"7 accepted"}, e.said)
	e.refuses = errors.New("no space left on device")
	e.foreign("8")
	e.pass(time.Minute)
	assert.Equal(t, "8 no space left on device", e.said[1])
}

func TestDriftLooksAgain(t *testing.T) {
	e := newEstate(t, DriftReport)
	e.lookErr = errBusy
	e.foreign("7")
	e.pass(10 * time.Second)
	assert.Empty(t, e.said)
	e.lookErr = nil
	e.pass(time.Second)
	assert.Equal(t, []string{"7"}, e.said)

	e.lookErr = errors.New("input/output error")
	e.pass(3 * driftPoll)
	assert.Equal(t, []string{"7", "failed: input/output error"}, e.said, "told once")
	e.lookErr = cgroups.ErrGone
	e.pass(driftPoll)
	looks := e.looks
	e.lookErr = nil
	e.foreign("8")
	e.pass(time.Hour)
	assert.Equal(t, looks, e.looks, "a group that is gone is not looked at")
}
