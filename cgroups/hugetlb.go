// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"math/bits"
	"strconv"
	"strings"
)

// ParsePageSize reads a huge page size in the form of [PageSizeName].
func ParsePageSize(name string) (uint64, error) {
	for i, unit := range []string{"KB", "MB", "GB"} {
		digits, ok := strings.CutSuffix(name, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 20)
		size := n << (10 * (i + 1))
		if err == nil && bits.OnesCount64(size) == 1 && PageSizeName(size) == name {
			return size, nil
		}
	}
	return 0, &InvalidError{Field: "hugetlb", Value: name, Reason: "not a size of huge pages such as 2MB"}
}

// PageSizeName is the kernel's name of a huge page size, "2MB" (mem_fmt in
// mm/hugetlb_cgroup.c).
func PageSizeName(size uint64) string {
	switch {
	case size >= 1<<30:
		return strconv.FormatUint(size>>30, 10) + "GB"
	case size >= 1<<20:
		return strconv.FormatUint(size>>20, 10) + "MB"
	}
	return strconv.FormatUint(size>>10, 10) + "KB"
}

// hugetlbFile is where the limit of huge pages in use, or reserved, is.
func hugetlbFile(version int, size uint64, reserved bool) string {
	f := "hugetlb." + PageSizeName(size)
	if reserved {
		f += ".rsvd"
	}
	if version == 1 {
		return f + ".limit_in_bytes"
	}
	return f + ".max"
}

// hugetlb plans the limits of huge pages.
func (p *planner) hugetlb(pages []HugeTLB) error {
	for _, h := range pages {
		v, err := p.under(ControllerHugeTLB)
		if err != nil {
			return err
		}
		for _, k := range []struct {
			limit    Limit
			reserved bool
		}{{h.Max, false}, {h.Reserved, true}} {
			if k.limit.IsZero() {
				continue
			}
			if err := p.hugetlbLimit(v, h.PageSize, k.limit, k.reserved); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *planner) hugetlbLimit(version int, size uint64, l Limit, reserved bool) error {
	knob, file := hugetlbFile(2, size, reserved), hugetlbFile(version, size, reserved)
	text, err := p.knob(ControllerHugeTLB, knob, file)
	if err != nil {
		return err
	}
	now, err := parseAmount(text)
	if err != nil {
		return err
	}
	ask := l.amount(noLimit)
	to, err := whole(knob, ask, size)
	if err != nil || now == to {
		return err
	}
	word := wordMax
	if version == 1 {
		word = "-1"
	}
	p.add(Change{
		Controller: ControllerHugeTLB, Knob: knob, File: file,
		Old: amountText(now, word), New: amountText(to, word), Why: rounded("", ask, to, size),
		canon: canonAmount, want: amountText(to, wordMax), stage: towards(now, to),
	})
	return nil
}
