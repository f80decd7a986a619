// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"cmp"
	"reflect"
	"slices"
)

// IsZero reports whether r names no knob.
func (r Resources) IsZero() bool {
	return r.CPU == CPU{} && r.CPUSet == CPUSet{} && r.Memory == Memory{} && r.PIDs == PIDs{} &&
		r.IO.Weight.IsZero() && r.IO.Priority == IOPriorityKeep && r.Devices.IsZero() &&
		!slices.ContainsFunc(r.IO.Devices, func(d IODevice) bool { return d != IODevice{Device: d.Device} }) &&
		!slices.ContainsFunc(r.HugeTLB, func(h HugeTLB) bool { return h != HugeTLB{PageSize: h.PageSize} }) &&
		!slices.ContainsFunc(r.RDMA, func(d RDMA) bool { return d != RDMA{Device: d.Device} }) &&
		!slices.ContainsFunc(r.Misc, func(m Misc) bool { return m != Misc{Name: m.Name} })
}

// Clone is a copy that shares no memory with r.
func (r Resources) Clone() Resources {
	r.IO.Devices = slices.Clone(r.IO.Devices)
	r.HugeTLB = slices.Clone(r.HugeTLB)
	r.RDMA = slices.Clone(r.RDMA)
	r.Misc = slices.Clone(r.Misc)
	r.Devices.rules = slices.Clone(r.Devices.rules)
	return r
}

// Equal reports whether r and o name the same knobs with the same values. The
// order of entries does not matter.
func (r Resources) Equal(o Resources) bool {
	return reflect.DeepEqual(r.sorted(), o.sorted())
}

// sorted is r in the one form that equal resources share.
func (r Resources) sorted() Resources {
	r = r.Clone()
	sortBy(&r.IO.Devices, func(a, b IODevice) int {
		return cmp.Or(cmp.Compare(a.Device.Major, b.Device.Major), cmp.Compare(a.Device.Minor, b.Device.Minor))
	})
	sortBy(&r.HugeTLB, func(a, b HugeTLB) int { return cmp.Compare(a.PageSize, b.PageSize) })
	sortBy(&r.RDMA, func(a, b RDMA) int { return cmp.Compare(a.Device, b.Device) })
	sortBy(&r.Misc, func(a, b Misc) int { return cmp.Compare(a.Name, b.Name) })
	r.Devices.rules = mergeRules(r.Devices.rules)
	sortBy(&r.Devices.rules, func(a, b DeviceRule) int { return cmp.Compare(a.String(), b.String()) })
	return r
}

func sortBy[T any](s *[]T, by func(a, b T) int) {
	if len(*s) == 0 {
		*s = nil
	}
	slices.SortStableFunc(*s, by)
}

// Merge is r with every knob that over names replaced. Entries of lists are
// merged knob by knob where they are for the same device, page size or name.
func (r Resources) Merge(over Resources) Resources {
	r = r.Clone()
	for i := range simpleKnobs {
		if k := &simpleKnobs[i]; k.named(&over) {
			k.copy(&r, &over)
		}
	}
	mergeLists(&r.IO.Devices, over.IO.Devices, func(d IODevice) Device { return d.Device })
	mergeLists(&r.HugeTLB, over.HugeTLB, func(h HugeTLB) uint64 { return h.PageSize })
	mergeLists(&r.RDMA, over.RDMA, func(d RDMA) string { return d.Device })
	mergeLists(&r.Misc, over.Misc, func(m Misc) string { return m.Name })
	if !over.Devices.IsZero() {
		r.Devices = over.Clone().Devices
	}
	return r
}

// mergeKnobs overwrites the fields of to that are not zero in from.
func mergeKnobs[T any](to *T, from T) {
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(from)
	for i := range src.NumField() {
		if !src.Field(i).IsZero() {
			dst.Field(i).Set(src.Field(i))
		}
	}
}

func mergeLists[T any, K comparable](to *[]T, from []T, key func(T) K) {
	for _, f := range from {
		i := slices.IndexFunc(*to, func(t T) bool { return key(t) == key(f) })
		if i < 0 {
			*to = append(*to, f)
			continue
		}
		mergeKnobs(&(*to)[i], f)
	}
}
