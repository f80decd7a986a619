// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"math"
	"strconv"
	"strings"
	"syscall"
)

// Bounds of bandwidth in microseconds (kernel/sched/core.c).
const (
	minPeriod  = 1000
	maxPeriod  = 1000000
	maxRuntime = (1<<44 - 1) // max_cfs_runtime
)

// cpuKinds are the files of cpu (kernel/sched/core.c).
func (t *tree) cpuKinds() []kind {
	if t.v2 {
		kinds := []kind{
			keeps("cpu.weight", cpu, "100", weightV2),
			{name: "cpu.weight.nice", ctl: cpu, where: notTop, log: true,
				show:  func(g *group) (string, error) { return niceOf(g.text("cpu.weight")), nil },
				store: storeNice},
			{name: "cpu.max", ctl: cpu, where: notTop, init: "max 100000", store: storeCPUMax},
		}
		kinds = append(kinds, t.since(5, 14, keeps("cpu.max.burst", cpu, "0", burst))...)
		return append(kinds, t.since(5, 15, kind{name: "cpu.idle", ctl: cpu, where: notTop, init: "0", store: storeIdle})...)
	}
	kinds := []kind{
		{name: "cpu.shares", ctl: cpu, init: "1024", store: storeShares},
		{name: "cpu.cfs_quota_us", ctl: cpu, init: "-1", store: storeQuota},
		{name: "cpu.cfs_period_us", ctl: cpu, init: "100000", store: storePeriod},
		shows("cpu.stat", cpu, everywhere, showCPUStatV1),
	}
	b := keeps("cpu.cfs_burst_us", cpu, "0", burst)
	b.where = everywhere
	kinds = append(kinds, t.since(5, 14, b)...)
	return append(kinds, t.since(5, 15, kind{name: "cpu.idle", ctl: cpu, init: "0", store: storeIdle})...)
}

func weightV2(g *group, data string) (string, error) {
	n, err := parseUint(data)
	switch {
	case err != nil:
		return "", err
	case n < 1 || n > 10000:
		return "", syscall.ERANGE
	case g.text("cpu.idle") == "1":
		return "", syscall.EINVAL
	}
	return strconv.FormatUint(n, 10), nil
}

// niceWeights are the kernel's weights of nice -20 to 19.
var niceWeights = [40]int{
	88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
	9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277,
	1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
	110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
}

// niceOf is the nice value nearest to a weight.
func niceOf(weight string) string {
	w, _ := strconv.Atoi(weight)
	shares := (w*1024 + 50) / 100
	best, at := math.MaxInt, 0
	for i, n := range niceWeights {
		d := max(n-shares, shares-n)
		if d >= best {
			break
		}
		best, at = d, i
	}
	return strconv.Itoa(at - 20)
}

func storeNice(g *group, data string) error {
	n, err := parseInt(data, 64)
	switch {
	case err != nil:
		return err
	case n < -20 || n > 19:
		return syscall.ERANGE
	case g.text("cpu.idle") == "1":
		return syscall.EINVAL
	}
	g.setText("cpu.weight", strconv.Itoa((niceWeights[n+20]*100+512)/1024))
	return nil
}

func storeShares(g *group, data string) error {
	n, err := parseUint(data)
	switch {
	case err != nil:
		return err
	case g.isTop(), g.text("cpu.idle") == "1":
		return syscall.EINVAL
	}
	g.setText("cpu.shares", strconv.FormatUint(min(max(n, 2), 1<<18), 10))
	return nil
}

// storeIdle: going idle and back resets the weight.
func storeIdle(g *group, data string) error {
	n, err := parseInt(data, 64)
	switch {
	case err != nil:
		return err
	case n < 0 || n > 1, g.isTop():
		return syscall.EINVAL
	case g.text("cpu.idle") == strconv.FormatInt(n, 10):
		return nil
	}
	weight, file := [2]string{"1024", "3"}[n], "cpu.shares"
	if g.v2 {
		weight, file = [2]string{"100", "0"}[n], "cpu.weight"
		if n == 1 && !g.m.cfg.Kernel.before(6, 12) {
			weight = "1" // the least that there is: it only looks like one
		}
	}
	g.setText("cpu.idle", strconv.FormatInt(n, 10))
	g.setText(file, weight)
	return nil
}

// bandwidth is what limits a group's CPU time, in microseconds.
type bandwidth struct{ quota, period, burst uint64 }

func (g *group) bandwidth() bandwidth {
	if g.v2 {
		quota, period, _ := strings.Cut(g.text("cpu.max"), " ")
		b := bandwidth{quota: noLimit, burst: g.amount("cpu.max.burst")}
		if quota != "max" {
			b.quota, _ = strconv.ParseUint(quota, 10, 64)
		}
		b.period, _ = strconv.ParseUint(period, 10, 64)
		return b
	}
	return bandwidth{g.amount("cpu.cfs_quota_us"), g.amount("cpu.cfs_period_us"), g.amount("cpu.cfs_burst_us")}
}

// ratio is the kernel's to_ratio, whose fixed point decides what is above what.
func (b bandwidth) ratio() uint64 {
	if b.quota == noLimit {
		return noLimit
	}
	return b.quota << 20 / b.period
}

// allow is the kernel's tg_set_cfs_bandwidth: on v1 no group may have a larger
// share than the one above it.
func (g *group) allow(b bandwidth) error {
	switch {
	case g.isTop(), b.quota < minPeriod, b.period < minPeriod, b.period > maxPeriod:
		return syscall.EINVAL
	case b.quota != noLimit && (b.quota > maxRuntime || b.burst > b.quota || b.burst+b.quota > maxRuntime):
		return syscall.EINVAL
	case g.v2:
		return nil
	}
	above := uint64(noLimit)
	for a := g.parent; !a.isTop() && above == noLimit; a = a.parent {
		above = a.bandwidth().ratio()
	}
	if b.quota != noLimit {
		if above != noLimit && b.ratio() > above {
			return syscall.EINVAL
		}
		above = b.ratio()
	}
	for _, c := range g.children {
		if !c.within(above) {
			return syscall.EINVAL
		}
	}
	return nil
}

// within reports whether nobody from g down has a larger share than above.
func (g *group) within(above uint64) bool {
	if r := g.bandwidth().ratio(); r != noLimit {
		if r > above {
			return false
		}
		above = r
	}
	for _, c := range g.children {
		if !c.within(above) {
			return false
		}
	}
	return true
}

// storeCPUMax reads "QUOTA" or "QUOTA PERIOD", as sscanf("%20s %llu") does.
func storeCPUMax(g *group, data string) error {
	f := strings.Fields(data)
	if len(f) == 0 {
		return syscall.EINVAL
	}
	b := g.bandwidth()
	if len(f) > 1 {
		if n, ok := leadingUint(f[1]); ok {
			b.period = n
		}
	}
	if n, ok := leadingUint(f[0]); ok {
		b.quota = n
	} else if f[0] == "max" {
		b.quota = noLimit
	} else {
		return syscall.EINVAL
	}
	if err := g.allow(b); err != nil {
		return err
	}
	g.setText("cpu.max", bytes(b.quota)+" "+strconv.FormatUint(b.period, 10))
	return nil
}

// leadingUint is sscanf's %llu.
func leadingUint(s string) (uint64, bool) {
	negative := strings.HasPrefix(s, "-")
	body := strings.TrimLeft(s, "+-")
	end := 0
	for end < len(body) && body[end] >= '0' && body[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(body[:end], 10, 64)
	if negative {
		n = -n
	}
	return n, err == nil
}

func storeQuota(g *group, data string) error {
	n, err := parseInt(data, 64)
	if err != nil {
		return err
	}
	b := g.bandwidth()
	switch {
	case n < 0:
		b.quota = noLimit
	case uint64(n) > math.MaxUint64/1000:
		return syscall.EINVAL
	default:
		b.quota = uint64(n)
	}
	return g.setBandwidthV1(b)
}

func storePeriod(g *group, data string) error {
	n, err := parseUint(data)
	if err != nil {
		return err
	}
	b := g.bandwidth()
	b.period = n
	return g.setBandwidthV1(b)
}

func (g *group) setBandwidthV1(b bandwidth) error {
	if err := g.allow(b); err != nil {
		return err
	}
	quota := "-1"
	if b.quota != noLimit {
		quota = strconv.FormatUint(b.quota, 10)
	}
	g.setText("cpu.cfs_quota_us", quota)
	g.setText("cpu.cfs_period_us", strconv.FormatUint(b.period, 10))
	return nil
}

func burst(g *group, data string) (string, error) {
	n, err := parseUint(data)
	if err != nil {
		return "", err
	}
	if n > math.MaxUint64/1000 {
		return "", syscall.EINVAL
	}
	b := g.bandwidth()
	b.burst = n
	if err := g.allow(b); err != nil {
		return "", err
	}
	return strconv.FormatUint(n, 10), nil
}

func showCPUStat(g *group) string {
	s := g.cpuWork()
	text := counters("usage_usec", s.CPUUsec, "user_usec", s.CPUUsec, "system_usec", uint64(0))
	if g.under.has(cpu) && !g.isTop() {
		text += counters("nr_periods", s.Periods, "nr_throttled", s.Throttled, "throttled_usec", s.ThrottledUsec)
		if !g.m.cfg.Kernel.before(5, 14) {
			text += counters("nr_bursts", uint64(0), "burst_usec", uint64(0))
		}
	}
	return text
}

func showCPUStatV1(g *group) string {
	s := g.cpuWork()
	text := counters("nr_periods", s.Periods, "nr_throttled", s.Throttled, "throttled_time", s.ThrottledUsec*1000)
	if !g.m.cfg.Kernel.before(5, 14) {
		text += counters("nr_bursts", uint64(0), "burst_time", uint64(0))
	}
	return text
}

func (t *tree) cpuacctKinds() []kind {
	return []kind{
		shows("cpuacct.usage", cpuacct, everywhere, func(g *group) string { return bytes(g.cpuWork().CPUUsec * 1000) }),
		shows("cpuacct.stat", cpuacct, everywhere, func(g *group) string {
			return counters("user", g.cpuWork().CPUUsec/10000, "system", uint64(0))
		}),
	}
}
