// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"math"
	"strconv"
)

const (
	quotaV1  = "cpu.cfs_quota_us"
	periodV1 = "cpu.cfs_period_us"

	minShares = 2
	maxShares = 1 << 18
)

var cpuFilesV1 = &cpuFiles{
	weight: "cpu.shares", idle: "cpu.idle", burst: "cpu.cfs_burst_us",
	idleWeights: []string{"3"},
	weightText:  func(w uint16) string { return strconv.FormatUint(sharesOf(w), 10) },
	sameWeight: func(text string, w uint16) bool {
		shares, err := parseAmount(text)
		return err == nil && weightOfShares(shares) == w
	},
	bandwidth:    bandwidthV1,
	setBandwidth: setBandwidthV1,
}

// WeightOfShares is the weight that v1's cpu.shares stand for: the runtimes'
// current quadratic formula, by which 1024 shares, v1's default, are weight 100,
// v2's. Shares outside of 2 to 262144 count as the nearest of these, as the
// kernel takes them.
func WeightOfShares(shares uint64) Weight { return WeightOf(weightOfShares(shares)) }

// Shares is the weight as v1's cpu.shares, if there is a weight or the default.
// Several numbers of shares have the same weight; this is the largest, and
// [WeightOfShares] makes the weight of it again.
func (w Weight) Shares() (n uint64, ok bool) {
	if w.is == unset {
		return 0, false
	}
	return sharesOf(w.number()), true
}

// weightOfShares is the runtimes' current conversion (opencontainers/cgroups
// since v0.0.5, crun since 1.23): a curve in log2(shares) through 2 -> 1,
// 1024 -> 100 and 262144 -> 10000.
func weightOfShares(shares uint64) uint16 {
	switch {
	case shares <= minShares:
		return 1
	case shares >= maxShares:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint16(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// sharesOf is the largest number of shares that has the weight: the curve's
// inverse, or next to it.
func sharesOf(w uint16) uint64 {
	l := (math.Sqrt(125*125+4*612*(math.Log10(float64(w))+7.0/34)) - 125) / 2
	x := math.Exp2(l)
	shares := min(max(uint64(x), minShares), maxShares)
	if part := x - math.Floor(x); part > 1e-6 && part < 1-1e-6 {
		return shares // no error of the arithmetic is as large
	}
	for shares > minShares && weightOfShares(shares) > w {
		shares--
	}
	for shares < maxShares && weightOfShares(shares+1) <= w {
		shares++
	}
	return shares
}

func bandwidthV1(p *planner) (b bandwidth, err error) {
	var n [2]uint64
	for i, file := range [...]string{quotaV1, periodV1} {
		text, err := p.knob(ControllerCPU, "cpu.max", file)
		if err != nil {
			return b, err
		}
		if n[i], err = parseAmount(text); err != nil {
			return b, err
		}
	}
	return bandwidth{quota: n[0], period: n[1]}, nil
}

// setBandwidthV1 brings quota and period to their new values. After the first
// of two writes a ratio holds that nobody asked for. The kernel refuses a ratio
// above the parent's and one below a child's (__cfs_schedulable), so it has to
// lie between the old one and the new one. Where no order gives that, a group
// without children passes through the lower ratio; with children the quota is
// lifted meanwhile, which means the parent's.
func setBandwidthV1(p *planner, from, to bandwidth) {
	turn := from.towards(to)
	quota := func(a, b uint64, why string) {
		if a != b {
			p.add(Change{Controller: ControllerCPU, Knob: "cpu.max", File: quotaV1,
				Old: amountText(a, "-1"), New: amountText(b, "-1"), Why: why, stage: turn})
		}
	}
	period := func(why string) {
		if from.period != to.period {
			p.add(Change{Controller: ControllerCPU, Knob: "cpu.max", File: periodV1,
				Old: strconv.FormatUint(from.period, 10), New: strconv.FormatUint(to.period, 10), Why: why, stage: turn})
		}
	}
	quotaFirst, periodFirst := bandwidth{to.quota, from.period}, bandwidth{from.quota, to.period}
	const between = ": so the share of CPU stays between the old and the new one"
	const lower = ": in the other order the share of CPU would rise above both"
	switch {
	case from.period == to.period, from.quota == to.quota:
		quota(from.quota, to.quota, "")
		period("")
	case to.quota == noLimit:
		quota(from.quota, noLimit, "before the period"+between)
		period("")
	case from.quota == noLimit:
		period("before the quota" + between)
		quota(noLimit, to.quota, "")
	case isBetween(quotaFirst, from, to):
		quota(from.quota, to.quota, "before the period"+between)
		period("")
	case isBetween(periodFirst, from, to):
		period("before the quota" + between)
		quota(from.quota, to.quota, "")
	case p.children(ControllerCPU):
		quota(from.quota, noLimit, "lifted while the period changes: in either order the share of CPU would leave what the parent or the children allow")
		p.changes[len(p.changes)-1].passing = true
		period("")
		quota(noLimit, to.quota, "")
	case quotaFirst.ratio() < periodFirst.ratio():
		quota(from.quota, to.quota, "before the period"+lower)
		period("")
	default:
		period("before the quota" + lower)
		quota(from.quota, to.quota, "")
	}
}

// isBetween reports whether the ratio of m lies between those of a and b.
func isBetween(m, a, b bandwidth) bool {
	return min(a.ratio(), b.ratio()) <= m.ratio() && m.ratio() <= max(a.ratio(), b.ratio())
}
