// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var disk80 = Device{Major: 8}

// fakeCost are the files of io.cost, with the kernel's rules.
type fakeCost struct {
	files  map[string]string
	writes []string
	fault  func(file string) error
}

func newFakeCost() *fakeCost {
	return &fakeCost{files: map[string]string{costQoSFile: "", costModelFile: ""}}
}

func (f *fakeCost) read(_ Controller, file string) (string, error) { return f.files[file], nil }
func (f *fakeCost) path(_ Controller, file string) string          { return "/fake/" + file }

// What the kernel has for a disk that it knows nothing about.
var autoCost = map[string]string{
	costQoSFile:   "enable=0 ctrl=auto rpct=0.00 rlat=0 wpct=0.00 wlat=0 min=1.00 max=10000.00",
	costModelFile: "ctrl=auto model=linear rbps=174019176 rseqiops=41708 rrandiops=370 wbps=178075866 wseqiops=42705 wrandiops=378",
}

func (f *fakeCost) write(file, data string) error {
	f.writes = append(f.writes, file+"="+data)
	if f.fault != nil {
		if err := f.fault(file); err != nil {
			return &FileError{Op: "write", Path: file, Data: data, Err: err}
		}
	}
	key, rest, _ := strings.Cut(data, " ")
	line, ok := lineOf(f.files[file], key)
	if !ok {
		line = autoCost[file]
	}
	words := strings.Fields(line)
	for word := range strings.FieldsSeq(rest) {
		name, _, _ := strings.Cut(word, "=")
		i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, name+"=") })
		if i < 0 {
			return &FileError{Op: "write", Path: file, Data: data, Err: syscall.EINVAL}
		}
		words[i] = word
	}
	if slices.Contains(words, "ctrl=auto") { // back to the kernel's figures
		auto := strings.Fields(autoCost[file])
		for i := range auto {
			if !strings.HasPrefix(words[i], "enable=") {
				words[i] = auto[i]
			}
		}
	}
	f.files[file] = key + " " + strings.Join(words, " ")
	return nil
}

var someCost = IOCost{
	Device: disk80,
	QoS: IOCostQoS{
		Enable: On, ReadPercent: PercentOf(95), ReadLatency: DurationOf(10 * time.Millisecond),
		WritePercent: PercentOf(99.5), WriteLatency: DurationOf(20 * time.Millisecond), Min: PercentOf(50), Max: PercentOf(150),
	},
	Model: IOCostModel{ReadBytes: Bytes(100 << 20), ReadSeqOps: Count(5000), ReadRandOps: Count(300), WriteRandOps: Count(200)},
}

func TestIOCost(t *testing.T) {
	f := newFakeCost()
	require.NoError(t, setCosts(f, someCost))
	require.Equal(t, []string{
		"io.cost.model=8:0 ctrl=user rbps=104857600 rseqiops=5000 rrandiops=300 wrandiops=200",
		"io.cost.qos=8:0 enable=1 ctrl=user rpct=95.00 rlat=10000 wpct=99.50 wlat=20000 min=50.00 max=150.00",
	}, f.writes)
	f.writes = nil
	require.NoError(t, setCosts(f, someCost))
	require.Empty(t, f.writes, "it holds already")

	all, err := readCosts(f)
	require.NoError(t, err)
	require.Len(t, all, 1)
	want := someCost
	want.QoS.Control, want.Model.Control = CostUser, CostUser
	want.Model.WriteBytes, want.Model.WriteSeqOps = Bytes(178075866), Count(42705)
	require.Equal(t, want, all[0])
	require.NoError(t, setCosts(f, all[0]))
	require.Empty(t, f.writes, "what was read is what is")

	require.NoError(t, setCosts(f, IOCost{Device: disk80, QoS: IOCostQoS{Enable: Off, Control: CostAuto}, Model: IOCostModel{Control: CostAuto}}))
	require.Equal(t, []string{"io.cost.model=8:0 ctrl=auto", "io.cost.qos=8:0 enable=0 ctrl=auto"}, f.writes)
}

// TestIOCostUndone has the second of the two writes fail, and the kernel make
// something else of a value.
func TestIOCostUndone(t *testing.T) {
	for _, before := range []IOCost{{Device: disk80}, {Device: disk80, QoS: IOCostQoS{Enable: On}, Model: IOCostModel{ReadBytes: Bytes(1000)}}} {
		f := newFakeCost()
		require.NoError(t, setCosts(f, before))
		was, err := costLine(f, costModelFile, disk80)
		require.NoError(t, err)
		f.fault = func(file string) error {
			if file == costQoSFile {
				return syscall.ENODEV
			}
			return nil
		}
		err = setCosts(f, someCost)
		require.ErrorIs(t, err, syscall.ENODEV)
		require.ErrorContains(t, err, "no such device")
		now, err := costLine(f, costModelFile, disk80)
		require.NoError(t, err)
		require.Equal(t, was, now)
	}
	err := setCosts(coercing{newFakeCost()}, someCost)
	var coerced *CoercedError
	require.ErrorAs(t, err, &coerced)
	require.Equal(t, "/fake/io.cost.model", coerced.Path)
}

// coercing takes every write and does none.
type coercing struct{ *fakeCost }

func (coercing) write(string, string) error { return nil }

func TestIOCostValidate(t *testing.T) {
	require.NoError(t, someCost.Validate())
	require.NoError(t, IOCost{Device: disk80}.Validate())
	for says, bad := range map[string]IOCost{
		"no such device":          {},
		"not in 0 to 100":         {Device: disk80, QoS: IOCostQoS{ReadPercent: PercentOf(100.01)}},
		"not in 1 to 10000":       {Device: disk80, QoS: IOCostQoS{Min: PercentOf(0.99)}},
		"not a percentage":        {Device: disk80, QoS: IOCostQoS{Max: PercentOf(math.NaN())}},
		"above max":               {Device: disk80, QoS: IOCostQoS{Min: PercentOf(100), Max: PercentOf(99)}},
		"negative":                {Device: disk80, QoS: IOCostQoS{ReadLatency: DurationOf(-time.Second)}},
		"whole microseconds":      {Device: disk80, QoS: IOCostQoS{ReadLatency: DurationOf(time.Nanosecond)}},
		"restores all":            {Device: disk80, QoS: IOCostQoS{WriteLatency: DefaultDuration()}},
		"together with figures":   {Device: disk80, QoS: IOCostQoS{Control: CostAuto, Min: PercentOf(50)}},
		"neither auto nor user":   {Device: disk80, Model: IOCostModel{Control: 7}},
		"not a number above 0":    {Device: disk80, Model: IOCostModel{ReadBytes: Max()}},
		`rseqiops "0"`:            {Device: disk80, Model: IOCostModel{ReadSeqOps: Count(0)}},
		"neither on nor off":      {Device: disk80, QoS: IOCostQoS{Enable: 9}},
		`rbps "18446744073709551`: {Device: disk80, Model: IOCostModel{ReadBytes: Bytes(math.MaxUint64)}},
	} {
		err := bad.Validate()
		require.ErrorIs(t, err, ErrInvalid, says)
		require.ErrorContains(t, err, says)
	}
	text, err := json.Marshal(someCost)
	require.NoError(t, err)
	var back IOCost
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, someCost, back)
	require.ErrorIs(t, new(CostControl).UnmarshalText([]byte("me")), ErrInvalid)
}

func TestPercent(t *testing.T) {
	assert.Equal(t, "12.35", PercentOf(12.345678).String())
	assert.Empty(t, Percent{}.String())
	p, ok := PercentOf(0).Value()
	assert.True(t, ok)
	assert.Zero(t, p)
	for _, bad := range []string{"1.", ".5", "1.234", "-1", "+1", "1e3", "x", " 1", "99999999999"} {
		var p Percent
		require.ErrorIs(t, p.UnmarshalText([]byte(bad)), ErrInvalid, bad)
		require.True(t, p.IsZero())
	}
}

// FuzzIOCost reads lines of io.cost: what is understood says the same when it is
// written, and what is not leaves nothing.
func FuzzIOCost(f *testing.F) {
	f.Add(autoCost[costQoSFile], autoCost[costModelFile])
	f.Add("enable=1 ctrl=user rpct=95.00 rlat=1 wpct=0.00 wlat=2 min=1.00 max=2.00", "ctrl=user rbps=max")
	f.Fuzz(func(t *testing.T, qos, model string) {
		var q IOCostQoS
		if !q.scan(qos) {
			require.Equal(t, IOCostQoS{}, q)
		} else if (IOCost{Device: disk80, QoS: q}).Validate() == nil {
			var again IOCostQoS
			require.True(t, again.scan(strings.Join(q.words(), " ")))
			require.Equal(t, q, again)
		}
		var m IOCostModel
		if !m.scan(model) {
			require.Equal(t, IOCostModel{}, m)
		} else if (IOCost{Device: disk80, Model: m}).Validate() == nil {
			var again IOCostModel
			require.True(t, again.scan(strings.Join(m.words(), " ")))
			require.Equal(t, m, again)
		}
		var p Percent
		if err := p.UnmarshalText([]byte(qos)); err == nil && !p.IsZero() {
			var again Percent
			require.NoError(t, again.UnmarshalText([]byte(p.String())))
			require.Equal(t, p, again)
		} else if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatal(err)
		}
	})
}

func TestIOPriority(t *testing.T) {
	for _, version := range []int{1, 2} {
		file := map[int]string{1: prioFileV1, 2: prioKnob}[version]
		f := newFake(t, version)
		want := Resources{IO: IO{Priority: IOPriorityIdle}}
		changes, err := planOf(f, want)
		require.NoError(t, err)
		require.NoError(t, apply(t.Context(), changes))
		require.Equal(t, []string{file + "=idle"}, f.writes)
		now, err := readResources(f, everyPageSize(), func(c Controller) bool { return c == ControllerIO })
		require.NoError(t, err)
		require.Equal(t, IOPriorityIdle, now.IO.Priority)
		delete(f.files, file)
		_, err = planOf(f, want)
		require.ErrorIs(t, err, ErrNotSupported)
		require.ErrorContains(t, err, "Linux 5.14")
	}
	require.ErrorIs(t, Resources{IO: IO{Priority: 77}}.Validate(), ErrInvalid)
	require.ErrorIs(t, new(IOPriority).UnmarshalText([]byte("rt")), ErrInvalid)
	base := Resources{IO: IO{Priority: IOPriorityIdle}}
	require.Equal(t, base, base.Merge(Resources{IO: IO{Weight: Weight{}}}))
	require.Equal(t, IOPriorityNoChange, base.Merge(Resources{IO: IO{Priority: IOPriorityNoChange}}).IO.Priority)
}
