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

// ioWeightV2 writes the group's weight to io.cost's file and to bfq's, whichever
// there are, since each device follows the one or the other, and a device's own
// to the one that it follows. It refuses a weight that nothing heeds.
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
	on, known := p.costEnabled(key)
	toCost := cost && (on || key == "default" || !bfq)
	toBFQ := bfq && (key == "default" || !(cost && on))
	before := len(p.changes)
	if toCost {
		same := func(w uint16) uint16 { return w }
		if err := p.ioWeight(costWeightFile, key, w, same, ""); err != nil {
			return err
		}
	}
	if toBFQ {
		why := ""
		if toCost {
			why = "the same for devices that use the bfq scheduler"
		}
		return p.ioWeight(bfqWeightFile, key, w, bfqWeight, why)
	}
	if known && !on && !w.IsDefault() && len(p.changes) > before {
		return noWeight("io.cost is not enabled (io.cost.qos) and the bfq scheduler is not there, so nothing heeds a weight")
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
		Old: key + " " + old, New: key + " " + want, line: key, canon: canon, want: want,
	})
	return nil
}
