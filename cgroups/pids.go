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
	return p.simple(ControllerPIDs, "pids.max", amountText(k.Max.amount(noLimit), wordMax), "")
}
