// SPDX-License-Identifier: Apache-2.0

package cgroups

const rdmaFile = "rdma.max"

// rdma plans rdma.max, which is the same file on both versions.
func (p *planner) rdma(devices []RDMA) error {
	for _, d := range devices {
		if d.Handles.IsZero() && d.Objects.IsZero() {
			continue
		}
		if _, err := p.under(ControllerRDMA); err != nil {
			return err
		}
		text, err := p.knob(ControllerRDMA, rdmaFile, rdmaFile)
		if err != nil {
			return err
		}
		p.fields(ControllerRDMA, rdmaFile, text, d.Device, []field{
			{"hca_handle", d.Handles}, {"hca_object", d.Objects},
		})
	}
	return nil
}

// field is one "name=value" of a line.
type field struct {
	name  string
	limit Limit
}

// fields adds the change of those fields of a device's line that differ. all
// are the fields of the file, in the kernel's order; a line that is missing has
// max in each.
func (p *planner) fields(ctl Controller, file, text, key string, all []field) {
	line, _ := lineOf(text, key)
	var old, data, was, want string
	turn := shrink // unless something grows
	for _, f := range all {
		now, ok := fieldOf(line, f.name)
		if !ok {
			now = wordMax
		}
		to := now
		if !f.limit.IsZero() {
			to = amountText(f.limit.amount(noLimit), wordMax)
		}
		if to != now {
			old += " " + f.name + "=" + now
			data += " " + f.name + "=" + to
			if n, err := parseAmount(now); err != nil || f.limit.amount(noLimit) > n {
				turn = grow
			}
		}
		was += " " + f.name + "=" + now
		want += " " + f.name + "=" + to
	}
	if data == "" {
		return
	}
	p.add(Change{
		Controller: ctl, Knob: file, File: file, Old: key + old, New: key + data,
		line: key, was: was, want: want, stage: turn,
		canon: func(text string) string {
			line, _ := lineOf(text, key)
			s := ""
			for _, f := range all {
				v, ok := fieldOf(line, f.name)
				if !ok {
					v = wordMax
				}
				s += " " + f.name + "=" + v
			}
			return s
		},
	})
}
