// SPDX-License-Identifier: Apache-2.0

package cgroups

import "strconv"

// Where weights are on v1. blkio.weight went with the cfq scheduler in Linux
// 5.0.
const (
	bfqWeightV1       = "blkio.bfq.weight"
	bfqDeviceWeightV1 = "blkio.bfq.weight_device"
)

func (p *planner) ioV1(k IO) error {
	if !k.Weight.IsZero() {
		if err := p.bfqWeightV1(k.Weight); err != nil {
			return err
		}
	}
	for _, d := range k.Devices {
		key := d.Device.String()
		if !d.Weight.IsZero() {
			if err := p.bfqDeviceWeightV1(key, d.Weight); err != nil {
				return err
			}
		}
		for _, f := range throttleV1 {
			if l := f.limit(&d); !l.IsZero() {
				if err := p.throttle(f.file, key, *l); err != nil {
					return err
				}
			}
		}
		if !d.Latency.IsZero() {
			return notOnV1("io.latency", "")
		}
	}
	return nil
}

// throttleV1 are the four fields of io.max.
var throttleV1 = []struct {
	file  string
	limit func(*IODevice) *Limit
}{
	{"blkio.throttle.read_bps_device", func(d *IODevice) *Limit { return &d.ReadBytes }},
	{"blkio.throttle.write_bps_device", func(d *IODevice) *Limit { return &d.WriteBytes }},
	{"blkio.throttle.read_iops_device", func(d *IODevice) *Limit { return &d.ReadOps }},
	{"blkio.throttle.write_iops_device", func(d *IODevice) *Limit { return &d.WriteOps }},
}

// throttle plans one line of a throttle file, where 0 removes the limit.
func (p *planner) throttle(file, key string, l Limit) error {
	text, err := p.knob(ControllerIO, "io.max", file)
	if err != nil {
		return err
	}
	canon, to := keyed(key, "0"), l.amount(noLimit)
	old, want := canon(text), amountText(to, "0")
	if old == want {
		return nil
	}
	now, err := parseAmount(old)
	if err != nil {
		return err
	}
	if now == 0 {
		now = noLimit
	}
	p.add(Change{
		Controller: ControllerIO, Knob: "io.max", File: file,
		Old: key + " " + old, New: key + " " + want, line: key, canon: canon, want: want, stage: towards(now, to),
	})
	return nil
}

func (p *planner) bfqWeightV1(w Weight) error {
	ok, err := p.hasIO(bfqWeightV1)
	if err != nil {
		return err
	}
	if !ok {
		return noWeight("on cgroup v1 only the bfq scheduler has weights, and it is not there")
	}
	old, err := p.read(ControllerIO, bfqWeightV1)
	want := strconv.Itoa(int(bfqWeight(w.number())))
	if err != nil || old == want {
		return err
	}
	p.add(Change{Controller: ControllerIO, Knob: "io.weight", File: bfqWeightV1, Old: old, New: want})
	return nil
}

// bfqDeviceWeightV1 plans a device's own line, where 0 removes it.
func (p *planner) bfqDeviceWeightV1(key string, w Weight) error {
	ok, err := p.hasIO(bfqDeviceWeightV1)
	if err != nil {
		return err
	}
	if !ok {
		return noWeight("on cgroup v1 only the bfq scheduler has weights of devices, and it is not there")
	}
	text, err := p.read(ControllerIO, bfqDeviceWeightV1)
	if err != nil {
		return err
	}
	canon, want := keyed(key, "0"), "0"
	if w.is == set {
		want = strconv.Itoa(int(bfqWeight(w.n)))
	}
	old := canon(text)
	if old == want {
		return nil
	}
	p.add(Change{
		Controller: ControllerIO, Knob: "io.weight", File: bfqDeviceWeightV1,
		Old: key + " " + old, New: key + " " + want, line: key, canon: canon, want: want,
	})
	return nil
}
