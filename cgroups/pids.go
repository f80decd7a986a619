// SPDX-License-Identifier: Apache-2.0

package cgroups

// maxPIDs is the largest number that pids.max takes: PID_MAX_LIMIT on 64 bits.
const maxPIDs = 1 << 22

// pids plans pids.max, which is the same file on both versions.
func (p *planner) pids(k PIDs) error {
	if k.Max.IsZero() {
		return nil
	}
	if _, err := p.under(ControllerPIDs); err != nil {
		return err
	}
	const file = "pids.max"
	old, err := p.knob(ControllerPIDs, file, file)
	if err != nil {
		return err
	}
	now, err := parseAmount(old)
	if err != nil {
		return err
	}
	to := k.Max.amount(noLimit)
	if now != to {
		p.add(Change{
			Controller: ControllerPIDs, Knob: file, File: file, stage: towards(now, to),
			Old: old, New: amountText(to, wordMax),
		})
	}
	return nil
}
