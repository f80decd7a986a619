// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// io plans the knobs of the io controller.
func (p *planner) io(k IO) error {
	if k.Weight.IsZero() && k.Priority == IOPriorityKeep && len(k.Devices) == 0 {
		return nil
	}
	v, err := p.under(ControllerIO)
	if err != nil {
		return err
	}
	if err := p.ioPriority(v, k.Priority); err != nil {
		return err
	}
	if v == 1 {
		return p.ioV1(k)
	}
	return p.ioV2(k)
}

// WeightOfBFQ is the weight that a weight of the bfq scheduler stands for, 1 to
// 1000 with a default of 100, as in blkio.weight of v1 and of the runtimes;
// [Resources.Validate] refuses what is made of others. It is the smallest weight
// that is written to bfq as n.
func WeightOfBFQ(n uint16) Weight { return WeightOf(weightOfBFQ(n)) }

// BFQ is the weight as one of the bfq scheduler, if there is a weight or the
// default. Above 100 eleven weights share one of bfq's.
func (w Weight) BFQ() (n uint16, ok bool) {
	if w.is == unset {
		return 0, false
	}
	return bfqWeight(w.number()), true
}

// bfqWeight is a weight in bfq's range, 1 to 1000, by the curve that systemd
// uses: equal up to the default, 100, and compressed above it.
func bfqWeight(w uint16) uint16 {
	if w <= defaultWeight {
		return w
	}
	return defaultWeight + (w-defaultWeight)/11
}

// weightOfBFQ is the smallest weight that bfqWeight makes b of.
func weightOfBFQ(b uint16) uint16 {
	if b <= defaultWeight {
		return b
	}
	return uint16(min(defaultWeight+(uint32(b)-defaultWeight)*11, math.MaxUint16))
}

// number is the duration in microseconds; clearing is 0.
func (d Duration) micros() uint64 { return uint64(d.d / time.Microsecond) }

// ioWeights plans the weight files of one version: one line "default" and one
// for each device, where absent means the default.
func (p *planner) ioWeight(file, key string, w Weight, conv func(uint16) uint16, why string) error {
	text, err := p.knob(ControllerIO, "io.weight", file)
	if err != nil {
		return err
	}
	missing, want := "default", "default"
	if key == missing {
		missing, want = strconv.Itoa(defaultWeight), strconv.Itoa(defaultWeight)
	}
	if w.is == set {
		want = strconv.Itoa(int(conv(w.n)))
	}
	old := keyed(key, missing)(text)
	if old == want {
		return nil
	}
	p.add(Change{
		Controller: ControllerIO, Knob: "io.weight", File: file, Old: key + " " + old, New: key + " " + want,
		Why: why, line: key, canon: keyed(key, missing), want: want,
	})
	return nil
}

// hasIO reports whether the group has the file.
func (p *planner) hasIO(file string) (bool, error) {
	_, err := p.read(ControllerIO, file)
	if isAbsent(err) {
		return false, nil
	}
	return err == nil, err
}

// noWeight explains why there are no weights.
func noWeight(reason string) error {
	return &UnsupportedError{Feature: "io.weight", Reason: reason}
}

// costEnabled reports whether io.cost is on for the device, or with "default"
// for any. Only the top of the real hierarchy tells; elsewhere it is not known.
func (p *planner) costEnabled(key string) (on, known bool) {
	text, err := p.read(ControllerIO, "/io.cost.qos")
	if err != nil {
		return false, false
	}
	if key != "default" {
		text, _ = lineOf(text, key)
	}
	return strings.Contains(text, "enable=1"), true
}
