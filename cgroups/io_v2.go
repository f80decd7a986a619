// SPDX-License-Identifier: Apache-2.0

package cgroups

import "strconv"

// Where weights are on v2.
const (
	costWeightFile = "io.weight"
	bfqWeightFile  = "io.bfq.weight"
)

func (p *planner) ioV2(k IO) error {
	if !k.Weight.IsZero() {
		if err := p.ioWeightV2("default", k.Weight); err != nil {
			return err
		}
	}
	for _, d := range k.Devices {
		key := d.Device.String()
		if !d.Weight.IsZero() {
			if err := p.ioWeightV2(key, d.Weight); err != nil {
				return err
			}
		}
		if !d.ReadBytes.IsZero() || !d.WriteBytes.IsZero() || !d.ReadOps.IsZero() || !d.WriteOps.IsZero() {
			text, err := p.knob(ControllerIO, "io.max", "io.max")
			if err != nil {
				return err
			}
			p.fields(ControllerIO, "io.max", text, key, []field{
				{"rbps", d.ReadBytes}, {"wbps", d.WriteBytes}, {"riops", d.ReadOps}, {"wiops", d.WriteOps},
			})
		}
		if !d.Latency.IsZero() {
			if err := p.ioLatency(key, d.Latency); err != nil {
				return err
			}
		}
	}
	return nil
}

// ioWeightV2 writes io.cost's file and bfq's, whichever there are, since each
// device follows the one or the other. It refuses a weight that nothing heeds.
func (p *planner) ioWeightV2(key string, w Weight) error {
	cost, err := p.hasIO(costWeightFile)
	if err != nil {
		return err
	}
	bfq, err := p.hasIO(bfqWeightFile)
	if err != nil {
		return err
	}
	if !cost && !bfq {
		return noWeight("this kernel has neither io.weight (CONFIG_BLK_CGROUP_IOCOST) nor io.bfq.weight (the bfq scheduler)")
	}
	on, before, why := cost && p.costEnabled(), len(p.changes), ""
	// The line of a device is refused where its io.cost is off.
	if cost && (on || key == "default" || !bfq) {
		same := func(w uint16) uint16 { return w }
		if err := p.ioWeight(costWeightFile, key, w, same, ""); err != nil {
			return err
		}
		why = "the same for devices that use the bfq scheduler"
	}
	if bfq {
		return p.ioWeight(bfqWeightFile, key, w, bfqWeight, why)
	}
	if !on && !w.IsDefault() && len(p.changes) > before {
		return noWeight("io.cost is not enabled on any device (io.cost.qos) and the bfq scheduler is not there, so nothing heeds a weight")
	}
	return nil
}

func (p *planner) ioLatency(key string, d Duration) error {
	const file = "io.latency"
	text, err := p.knob(ControllerIO, file, file)
	if err != nil {
		return err
	}
	canon := keyed(key, "target=0")
	old, want := canon(text), "target="+strconv.FormatUint(d.micros(), 10)
	if old == want {
		return nil
	}
	p.add(Change{
		Controller: ControllerIO, Knob: file, File: file,
		Old: key + " " + old, New: key + " " + want, canon: canon, want: want,
	})
	return nil
}
