// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The kernel's bounds of cpu.max, and its period for a new group.
const (
	minBandwidth  = time.Millisecond // of the quota and of the period
	maxPeriod     = time.Second
	maxQuota      = (1<<44 - 1) * time.Microsecond // kernel/sched/core.c: max_cfs_runtime
	defaultPeriod = 100 * time.Millisecond
)

// A Bandwidth is the CPU time that a group gets in each period. The zero
// Bandwidth leaves the knob as it is.
type Bandwidth struct {
	is            presence
	quota, period time.Duration
}

// CPUs is the time of n CPUs, in periods of 100 ms: CPUs(1.5) is 150 ms in
// each. Less than 0.01 needs [Quota] with a longer period.
func CPUs(n float64) Bandwidth {
	us := math.Round(n * float64(defaultPeriod/time.Microsecond))
	// NaN fails the comparison too; Validate refuses the negative quota.
	if !(us >= 0 && us <= float64(maxQuota/time.Microsecond)) {
		us = -1
	}
	return Quota(time.Duration(us)*time.Microsecond, defaultPeriod)
}

// Quota is quota of CPU time in each period. The kernel keeps microseconds and
// takes periods of 1 ms to 1 s and quotas of at least 1 ms.
func Quota(quota, period time.Duration) Bandwidth { return Bandwidth{set, quota, period} }

// NoQuota lifts the limit and leaves the period as it is.
func NoQuota() Bandwidth { return Bandwidth{is: unlimited} }

// DefaultBandwidth is what the kernel gives a new group: no quota, and a
// period of 100 ms.
func DefaultBandwidth() Bandwidth { return Bandwidth{is: clearing} }

// IsZero reports whether the bandwidth is unset.
func (b Bandwidth) IsZero() bool { return b.is == unset }

// IsMax reports whether the limit is lifted.
func (b Bandwidth) IsMax() bool { return b.is == unlimited }

// IsDefault reports whether the knob returns to the kernel's default.
func (b Bandwidth) IsDefault() bool { return b.is == clearing }

// Value is the quota and the period, if the bandwidth has them.
func (b Bandwidth) Value() (quota, period time.Duration, ok bool) {
	return b.quota, b.period, b.is == set
}

// CPUs is the number of CPUs whose time the quota is, if there is one.
func (b Bandwidth) CPUs() (n float64, ok bool) {
	if b.is != set || b.period <= 0 {
		return 0, false
	}
	return float64(b.quota) / float64(b.period), true
}

// String is quota and period, "150ms/100ms", or "max", "default", or nothing
// when unset.
func (b Bandwidth) String() string {
	if b.is == set {
		return b.quota.String() + "/" + b.period.String()
	}
	return knobString(b.is, 0)
}

// MarshalText is [Bandwidth.String].
func (b Bandwidth) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what [Bandwidth.String] writes, and a decimal number of
// CPUs such as "1.5".
func (b *Bandwidth) UnmarshalText(text []byte) error {
	s := string(text)
	switch s {
	case "":
		*b = Bandwidth{}
		return nil
	case wordMax:
		*b = NoQuota()
		return nil
	case wordDefault:
		*b = DefaultBandwidth()
		return nil
	}
	if q, p, ok := strings.Cut(s, "/"); ok {
		quota, err1 := time.ParseDuration(q)
		period, err2 := time.ParseDuration(p)
		if err1 == nil && err2 == nil && quota >= 0 && period > 0 {
			*b = Quota(quota, period)
			return nil
		}
	} else if n, err := strconv.ParseFloat(s, 64); err == nil && strings.Trim(s, ".0123456789") == "" {
		if v := CPUs(n); v.quota >= 0 {
			*b = v
			return nil
		}
	}
	return &InvalidError{Field: "bandwidth", Value: s, Reason: `neither quota/period such as 150ms/100ms nor a number of CPUs nor "max" nor "default"`}
}
