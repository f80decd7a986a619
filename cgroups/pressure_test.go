// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestScanPressure(t *testing.T) {
	var p Pressure
	require.NoError(t, p.scan([]byte("some avg10=3.36 avg60=100.00 avg300=0.01 total=20543378\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")))
	assert.Equal(t, Pressure{
		Some: PressureLine{true, 3.36, 100, 0.01, 20543378 * time.Microsecond},
		Full: PressureLine{Present: true},
	}, p)

	p = Pressure{}
	require.NoError(t, p.scan([]byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")))
	assert.True(t, p.Some.Present)
	assert.False(t, p.Full.Present, "cpu has no full line before Linux 5.13")

	for _, bad := range []string{
		"", "\n", "none avg10=0.00\n", "some\n", "some avg10=0.00 avg60=0.00 avg300=0.00\n",
		"some avg10=-1.00 avg60=0.00 avg300=0.00 total=1\n", "some avg10=nan total=1\n", "some total=-1\n",
		"some total=18446744073709551615\n",
	} {
		p = Pressure{}
		assert.Error(t, p.scan([]byte(bad)), bad)
	}
}

func TestPressureJSON(t *testing.T) {
	p := Pressure{Some: PressureLine{Present: true, Avg10: 1.5, Total: time.Millisecond}}
	b, err := json.Marshal(p)
	require.NoError(t, err)
	assert.JSONEq(t, `{"some":{"avg10":1.5,"avg60":0,"avg300":0,"totalNs":1000000}}`, string(b))
	var back Pressure
	require.NoError(t, json.Unmarshal(b, &back))
	assert.Equal(t, p, back)
	require.NoError(t, json.Unmarshal([]byte(`{"some":null}`), &back))
	assert.True(t, back.IsZero())
}

func TestReadingJSON(t *testing.T) {
	var r Reading[time.Duration]
	require.NoError(t, json.Unmarshal([]byte("1500"), &r))
	assert.Equal(t, ReadingOf(1500*time.Nanosecond), r)
	assert.Equal(t, "1.5µs", r.String())
	require.NoError(t, json.Unmarshal([]byte("null"), &r))
	assert.True(t, r.IsZero())
	assert.Empty(t, r.String())
	require.Error(t, json.Unmarshal([]byte(`"x"`), &r))
	assert.True(t, r.IsZero())
	b, err := json.Marshal([]Reading[uint64]{{}, ReadingOf[uint64](0)})
	require.NoError(t, err)
	assert.JSONEq(t, "[null,0]", string(b))
}

func TestTriggerValidate(t *testing.T) {
	const ms = time.Millisecond
	for _, ok := range []Trigger{{Stall: 1 * time.Microsecond, Window: 500 * ms}, {Stall: 10000 * ms, Window: 10000 * ms}, {Full: true, Stall: 150 * ms, Window: 1000 * ms}} {
		assert.NoError(t, ok.Validate(), ok)
	}
	for _, bad := range []Trigger{
		{}, {Stall: 100 * ms}, {Window: 1000 * ms}, {Stall: -1, Window: 1000 * ms}, {Stall: 100 * ms, Window: 499 * ms},
		{Stall: 100 * ms, Window: 10001 * ms}, {Stall: 1001 * ms, Window: 1000 * ms}, {Stall: 1500, Window: 1000 * ms},
		{Stall: 1000, Window: 1000*ms + 1},
	} {
		assert.ErrorIs(t, bad.Validate(), ErrInvalid, "%+v", bad)
	}
	assert.Equal(t, "full 150000 1000000", Trigger{Full: true, Stall: 150 * ms, Window: 1000 * ms}.String())
}

// FuzzPressure holds: what is understood can be written and read again without
// change, and nothing negative comes out.
func FuzzPressure(f *testing.F) {
	f.Add("some avg10=3.36 avg60=1.21 avg300=1.69 total=20543378\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	f.Add("some total=1")
	f.Fuzz(func(t *testing.T, text string) {
		var p Pressure
		if p.scan([]byte(text)) != nil {
			return
		}
		assert.False(t, p.IsZero())
		out := ""
		for kind, l := range map[string]PressureLine{"some": p.Some, "full": p.Full} {
			assert.GreaterOrEqual(t, l.Total, time.Duration(0))
			assert.GreaterOrEqual(t, l.Avg10, 0.0)
			if l.Present {
				out += fmt.Sprintf("%s avg10=%s avg60=%s avg300=%s total=%d\n", kind, dec(l.Avg10), dec(l.Avg60), dec(l.Avg300), l.Total.Microseconds())
			}
		}
		var again Pressure
		require.NoError(t, again.scan([]byte(out)), out)
		assert.Equal(t, p, again)
	})
}
