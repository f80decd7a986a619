// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/namespaces"
)

// Bandwidth is what one interface of a sandbox gets of the links that it uses, seen
// from inside. Fields that are unset leave what there is.
type Bandwidth struct {
	Egress   Limit    `json:"egress,omitzero"`   // what the sandbox sends
	Ingress  Limit    `json:"ingress,omitzero"`  // what it receives; only a Veth has it
	Priority Priority `json:"priority,omitzero"` // of what it sends, where links are shared; not of a Physical interface
}

// Validate reports limits that the kernel's shaper cannot keep, and priorities that
// mean nothing.
func (b Bandwidth) Validate() error {
	return errors.Join(b.Egress.Validate(), b.Ingress.Validate(), b.Priority.Validate())
}

// Merge is b with what change sets.
func (b Bandwidth) Merge(change Bandwidth) Bandwidth {
	if !change.Egress.IsZero() {
		b.Egress = change.Egress
	}
	if !change.Ingress.IsZero() {
		b.Ingress = change.Ingress
	}
	if !change.Priority.IsZero() {
		b.Priority = change.Priority
	}
	return b
}

// Limit is a rate, with a burst: unset, unlimited, or so many bits a second. The
// zero Limit is unset.
type Limit struct {
	state uint8
	rate  uint64 // bits a second
	burst uint64 // bytes; 0: chosen by the rate
}

const (
	limitUnset uint8 = iota
	limitUnlimited
	limitRate
)

// Unlimited lifts the limit.
func Unlimited() Limit { return Limit{state: limitUnlimited} }

// BitsPerSecond limits to a rate, with a burst that suits it: what passes in 10 ms, up
// to 16 MiB. Where that is less than 128 KiB, below some 105 Mbit/s, it is what passes
// in 4 ms, 16 KiB at least: on such links a burst is what others wait for. See
// [Attachment.SetBandwidth] for what stands against that.
func BitsPerSecond(rate uint64) Limit { return Limit{state: limitRate, rate: rate} }

// WithBurst is the limit with a burst of so many bytes, which pass at once after
// a time of silence. It is at least 128 KiB: more than the largest packet that
// may wait in the queue when the limit is lowered, and that could never leave
// with less.
func (l Limit) WithBurst(bytes uint64) Limit {
	l.burst = bytes
	return l
}

// IsZero reports whether the limit is unset.
func (l Limit) IsZero() bool { return l.state == limitUnset }

// IsUnlimited reports whether the limit lifts whatever there is.
func (l Limit) IsUnlimited() bool { return l.state == limitUnlimited }

// Rate is the bits a second, and whether there is such a limit.
func (l Limit) Rate() (bitsPerSecond uint64, ok bool) { return l.rate, l.state == limitRate }

// Burst is the burst in bytes: the one that was set, or the one that suits the
// rate.
func (l Limit) Burst() uint64 {
	if l.burst != 0 {
		return l.burst
	}
	bytes := l.rate / 8
	if burst := bytes / 100; burst >= minBurst {
		return min(burst, maxBurst)
	}
	return max(bytes/250, slowBurst)
}

// The largest packet is one of 64 KiB that is not segmented yet; the kernel
// counts the headers of its segments, too. A smaller burst has it segmented before it
// is queued, which is cheap at the rates that have one; then it has to hold a link's MTU.
const (
	minRate   = 64_000
	maxRate   = 8e12
	minBurst  = 128 << 10
	maxBurst  = 16 << 20
	slowBurst = 16 << 10
)

// Validate wants 64 kbit/s to 8 Tbit/s, and a burst of 128 KiB to 16 MiB that
// passes in less than two minutes. The error matches [ErrInvalid].
func (l Limit) Validate() error {
	bad := func(reason string) error {
		return &namespaces.InvalidError{Field: "bandwidth", Value: l.String(), Reason: reason}
	}
	switch {
	case l.state != limitRate:
		if l.burst != 0 {
			return bad("a burst without a rate")
		}
	case l.rate < minRate || l.rate > maxRate:
		return bad("not 64kbit to 8tbit")
	case l.burst != 0 && (l.burst < minBurst || l.burst > maxBurst):
		return bad("the burst is not 128 KiB to 16 MiB")
	case float64(l.Burst())*8/float64(l.rate) > 120:
		return bad("the burst takes more than two minutes")
	}
	return nil
}

// String reads "100mbit", "100mbit/256kb" with a burst, "unlimited", or "" if
// unset: what [ParseLimit] reads.
func (l Limit) String() string {
	switch l.state {
	case limitUnset:
		return ""
	case limitUnlimited:
		return "unlimited"
	}
	s := unitText(l.rate, 1000, "bit", "kbit", "mbit", "gbit", "tbit")
	if l.burst != 0 {
		s += "/" + unitText(l.burst, 1024, "b", "kb", "mb")
	}
	return s
}

func unitText(n, step uint64, units ...string) string {
	i := 0
	for i < len(units)-1 && n != 0 && n%step == 0 {
		n /= step
		i++
	}
	return strconv.FormatUint(n, 10) + units[i]
}

// ParseLimit reads a rate as tc(8) writes it, with decimal units ("800kbit",
// "100mbit", "1.5gbit"), and after a slash a burst in bytes with binary units
// ("100mbit/256kb"); or "unlimited". The error matches [ErrInvalid].
func ParseLimit(text string) (Limit, error) {
	bad := func() (Limit, error) {
		return Limit{}, &namespaces.InvalidError{Field: "bandwidth", Value: clip(text),
			Reason: `not a rate like "100mbit", with a burst "100mbit/256kb", or "unlimited"`}
	}
	if text == "unlimited" {
		return Unlimited(), nil
	}
	rate, burst, both := strings.Cut(text, "/")
	n, ok := parseUnits(rate, []unit{{"tbit", 1e12}, {"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}})
	if !ok {
		return bad()
	}
	l := BitsPerSecond(n)
	if both {
		b, ok := parseUnits(burst, []unit{{"mb", 1 << 20}, {"kb", 1 << 10}, {"b", 1}})
		if !ok || b == 0 {
			return bad()
		}
		l = l.WithBurst(b)
	}
	if err := l.Validate(); err != nil {
		return Limit{}, err
	}
	return l, nil
}

type unit struct {
	name   string
	factor uint64
}

// parseUnits reads a number with one of the units, the longest names first.
func parseUnits(s string, units []unit) (uint64, bool) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
			return n * u.factor, n <= math.MaxUint64/u.factor
		}
		if strings.Trim(digits, "0123456789.") != "" {
			return 0, false
		}
		f, err := strconv.ParseFloat(digits, 64)
		f *= float64(u.factor)
		return uint64(f), err == nil && f < 1<<62
	}
	return 0, false
}

// MarshalText is [Limit.String].
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is [ParseLimit]; empty is unset.
func (l *Limit) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = Limit{}
		return nil
	}
	parsed, err := ParseLimit(string(text))
	if err == nil {
		*l = parsed
	}
	return err
}
