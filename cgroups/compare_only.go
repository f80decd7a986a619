// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Only is r with nothing but the knobs that named names, whatever their values
// there: what takes an update to named back, if r was read before it. Those
// that r does not know are in unknown, by their names: "memory.high". A device
// that r has no entry for had the kernel's defaults.
func (r Resources) Only(named Resources) (only Resources, unknown []string) {
	k := &knobPicker{}
	pick(k, "cpu.", &only.CPU, r.CPU, named.CPU)
	pick(k, "cpuset.", &only.CPUSet, r.CPUSet, named.CPUSet)
	pick(k, "memory.", &only.Memory, r.Memory, named.Memory)
	pick(k, "pids.", &only.PIDs, r.PIDs, named.PIDs)
	if !named.IO.Weight.IsZero() {
		if only.IO.Weight = r.IO.Weight; only.IO.Weight.IsZero() {
			k.lacks("io.weight")
		}
	}
	for _, d := range named.IO.Devices {
		had := IODevice{
			Weight: DefaultWeight(), ReadBytes: Max(), WriteBytes: Max(), ReadOps: Max(), WriteOps: Max(),
			Latency: DefaultDuration(),
		}
		if i := slices.IndexFunc(r.IO.Devices, func(o IODevice) bool { return o.Device == d.Device }); i >= 0 {
			mergeKnobs(&had, r.IO.Devices[i])
		}
		had.Device = d.Device
		to := IODevice{}
		pick(k, "io.", &to, had, d)
		only.IO.Devices = append(only.IO.Devices, to)
	}
	pickList(k, "hugetlb", &only.HugeTLB, r.HugeTLB, named.HugeTLB, func(h HugeTLB) uint64 { return h.PageSize })
	pickList(k, "rdma", &only.RDMA, r.RDMA, named.RDMA, func(d RDMA) string { return d.Device })
	pickList(k, "misc", &only.Misc, r.Misc, named.Misc, func(m Misc) string { return m.Name })
	if !named.Devices.IsZero() {
		if only.Devices = r.Clone().Devices; only.Devices.IsZero() {
			k.lacks("devices")
		}
	}
	return only, k.unknown
}

// knobPicker collects the names of knobs that are not known.
type knobPicker struct{ unknown []string }

func (k *knobPicker) lacks(knob string) { k.unknown = append(k.unknown, knob) }

// pick copies the fields of from that are not zero in named.
func pick[T any](k *knobPicker, prefix string, to *T, from, named T) {
	dst, src, want := reflect.ValueOf(to).Elem(), reflect.ValueOf(from), reflect.ValueOf(named)
	for i := range src.NumField() {
		switch {
		case want.Field(i).IsZero():
		case src.Field(i).IsZero():
			name, _, _ := strings.Cut(src.Type().Field(i).Tag.Get("json"), ",")
			k.lacks(prefix + name)
		default:
			dst.Field(i).Set(src.Field(i))
		}
	}
}

func pickList[T any, K comparable](k *knobPicker, name string, to *[]T, from, named []T, key func(T) K) {
	for _, want := range named {
		i := slices.IndexFunc(from, func(t T) bool { return key(t) == key(want) })
		if i < 0 {
			k.lacks(fmt.Sprintf("%s of %v", name, key(want)))
			continue
		}
		var t T
		pick(k, name+".", &t, from[i], want)
		*to = append(*to, t)
	}
}
