// SPDX-License-Identifier: Apache-2.0

package cgroups

const miscFile = "misc.max"

// misc plans misc.max, which is the same file on both versions. It has a line
// for each resource that the machine has.
func (p *planner) misc(all []Misc) error {
	for _, m := range all {
		if m.Max.IsZero() {
			continue
		}
		if _, err := p.under(ControllerMisc); err != nil {
			return err
		}
		text, err := p.knob(ControllerMisc, miscFile, miscFile)
		if err != nil {
			return err
		}
		old, ok := lineOf(text, m.Name)
		if !ok {
			return &UnsupportedError{Feature: "misc.max " + m.Name, Reason: "this machine has no such resource"}
		}
		now, err := parseAmount(old)
		if err != nil {
			return err
		}
		to := m.Max.amount(noLimit)
		if now == to {
			continue
		}
		want := amountText(to, wordMax)
		p.add(Change{
			Controller: ControllerMisc, Knob: miscFile, File: miscFile,
			Old: m.Name + " " + old, New: m.Name + " " + want,
			line: m.Name, canon: keyed(m.Name, ""), want: want, stage: towards(now, to),
		})
	}
	return nil
}
