// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"math"
	"strconv"
	"time"
)

// presence is the state of a knob; its zero value leaves the kernel's value
// alone.
type presence uint8

const (
	unset     presence = iota
	set                // a value
	unlimited          // "max"
	clearing           // back to the kernel's default
)

// The words for the states without a number, in text and JSON.
const (
	wordMax     = "max"
	wordDefault = "default"
)

// A Limit is an amount of bytes, processes or operations that a group may
// reach. The zero Limit leaves the knob as it is.
type Limit struct {
	is presence
	n  uint64
}

// Bytes is a limit of n bytes.
func Bytes(n uint64) Limit { return Limit{set, n} }

// Count is a limit of n things: processes, operations a second, handles.
func Count(n uint64) Limit { return Limit{set, n} }

// Max lifts a limit: the kernel's "max".
func Max() Limit { return Limit{is: unlimited} }

// Default returns a limit to what the kernel gives a new group.
func Default() Limit { return Limit{is: clearing} }

// IsZero reports whether the limit is unset.
func (l Limit) IsZero() bool { return l.is == unset }

// IsMax reports whether the limit is lifted.
func (l Limit) IsMax() bool { return l.is == unlimited }

// IsDefault reports whether the knob returns to the kernel's default.
func (l Limit) IsDefault() bool { return l.is == clearing }

// Value is the number, if the limit has one.
func (l Limit) Value() (n uint64, ok bool) { return l.n, l.is == set }

// String is the number, "max", "default", or nothing when unset.
func (l Limit) String() string { return knobString(l.is, l.n) }

// MarshalText is [Limit.String].
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what [Limit.String] writes: decimal digits, "max",
// "default" or nothing. Units, signs and spaces are refused.
func (l *Limit) UnmarshalText(text []byte) error {
	is, n, err := parseKnob("limit", string(text), math.MaxUint64)
	if err != nil {
		return err
	}
	*l = Limit{is, n}
	return nil
}

// A Weight is a share of a contended resource relative to the siblings', from
// 1 to 10000, 100 being the kernel's default. The zero Weight leaves the knob
// as it is.
type Weight struct {
	is presence
	n  uint16
}

// WeightOf is the weight n; [Resources.Validate] refuses what is not in 1 to
// 10000.
func WeightOf(n uint16) Weight { return Weight{set, n} }

// DefaultWeight returns a weight to the kernel's default, 100.
func DefaultWeight() Weight { return Weight{is: clearing} }

// IsZero reports whether the weight is unset.
func (w Weight) IsZero() bool { return w.is == unset }

// IsDefault reports whether the knob returns to the kernel's default.
func (w Weight) IsDefault() bool { return w.is == clearing }

// Value is the number, if the weight has one.
func (w Weight) Value() (n uint16, ok bool) { return w.n, w.is == set }

// String is the number, "default", or nothing when unset.
func (w Weight) String() string { return knobString(w.is, uint64(w.n)) }

// MarshalText is [Weight.String].
func (w Weight) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads what [Weight.String] writes.
func (w *Weight) UnmarshalText(text []byte) error {
	is, n, err := parseKnob("weight", string(text), math.MaxUint16)
	if err == nil && is == unlimited {
		err = &InvalidError{Field: "weight", Value: string(text), Reason: "a weight has no maximum to lift"}
	}
	if err != nil {
		return err
	}
	*w = Weight{is, uint16(n)}
	return nil
}

// A Switch is a knob that is on or off. The zero Switch leaves it as it is.
type Switch uint8

// The states of a [Switch]. The kernel's default is off for each.
const (
	Keep Switch = iota
	On
	Off
)

// SwitchOf is On or Off.
func SwitchOf(on bool) Switch {
	if on {
		return On
	}
	return Off
}

// String is "on", "off", or nothing when unset.
func (s Switch) String() string {
	switch s {
	case Keep:
		return ""
	case On:
		return "on"
	case Off:
		return "off"
	}
	return "switch(" + strconv.Itoa(int(s)) + ")"
}

// MarshalText is [Switch.String].
func (s Switch) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads "on", "off" or nothing.
func (s *Switch) UnmarshalText(text []byte) error {
	switch string(text) {
	case "":
		*s = Keep
	case "on":
		*s = On
	case "off":
		*s = Off
	default:
		return &InvalidError{Field: "switch", Value: string(text), Reason: "neither on nor off"}
	}
	return nil
}

// A Duration is a knob that holds a time. The zero Duration leaves the knob as
// it is; DurationOf(0) sets it to nothing.
type Duration struct {
	is presence
	d  time.Duration
}

// DurationOf is the time d. The kernel keeps microseconds.
func DurationOf(d time.Duration) Duration { return Duration{set, d} }

// DefaultDuration returns the knob to the kernel's default.
func DefaultDuration() Duration { return Duration{is: clearing} }

// IsZero reports whether the time is unset.
func (d Duration) IsZero() bool { return d.is == unset }

// IsDefault reports whether the knob returns to the kernel's default.
func (d Duration) IsDefault() bool { return d.is == clearing }

// Value is the time, if there is one.
func (d Duration) Value() (time.Duration, bool) { return d.d, d.is == set }

// String is the time as time.Duration writes it, "default", or nothing.
func (d Duration) String() string {
	if d.is == set {
		return d.d.String()
	}
	return knobString(d.is, 0)
}

// MarshalText is [Duration.String].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [Duration.String] writes.
func (d *Duration) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "":
		*d = Duration{}
	case wordDefault:
		*d = DefaultDuration()
	default:
		v, err := time.ParseDuration(s)
		if err != nil || v < 0 {
			return &InvalidError{Field: "duration", Value: s, Reason: "not a duration such as 10ms"}
		}
		*d = DurationOf(v)
	}
	return nil
}

func knobString(is presence, n uint64) string {
	switch is {
	case unset:
		return ""
	case set:
		return strconv.FormatUint(n, 10)
	case unlimited:
		return wordMax
	case clearing:
		return wordDefault
	}
	return ""
}

func parseKnob(field, s string, most uint64) (presence, uint64, error) {
	switch s {
	case "":
		return unset, 0, nil
	case wordMax:
		return unlimited, 0, nil
	case wordDefault:
		return clearing, 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case err != nil:
		return unset, 0, &InvalidError{Field: field, Value: s, Reason: `neither decimal digits nor "max" nor "default"`}
	case n > most:
		return unset, 0, &InvalidError{Field: field, Value: s, Reason: "above " + strconv.FormatUint(most, 10)}
	}
	return set, n, nil
}
