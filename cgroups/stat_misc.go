// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bytes"

	"github.com/caisson-run/caisson/internal/parse"
)

// scanRDMA scans rdma.current: "mlx4_0 hca_handle=2 hca_object=2000", a line a
// device.
func (s *Stats) scanRDMA(text []byte) error {
	for len(text) > 0 {
		var line []byte
		line, text = parse.Line(text)
		name, line := parse.Field(line)
		if len(name) == 0 {
			continue
		}
		var dev *RDMAStats
		s.RDMA, dev = next(s.RDMA)
		*dev = RDMAStats{Device: keep(dev.Device, name)}
		for {
			var word []byte
			if word, line = parse.Field(line); len(word) == 0 {
				break
			}
			key, value, _ := parse.Assignment(word)
			var err error
			switch string(key) {
			case "hca_handle":
				err = scanUint(&dev.Handles, value)
			case "hca_object":
				err = scanUint(&dev.Objects, value)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// scanMisc scans misc.current: "sev 3", a line a resource.
func (s *Stats) scanMisc(text []byte) error {
	for len(text) > 0 {
		var key, value []byte
		key, value, text = parse.Pair(text)
		if len(key) == 0 {
			continue
		}
		var res *MiscStats
		s.Misc, res = next(s.Misc)
		*res = MiscStats{Name: keep(res.Name, key)}
		if err := scanUint(&res.Current, value); err != nil {
			return err
		}
	}
	return nil
}

// scanMiscEvents scans misc.events: "sev.max 0". It comes after misc.current.
func (s *Stats) scanMiscEvents(text []byte) error {
	for len(text) > 0 {
		var key, value []byte
		key, value, text = parse.Pair(text)
		name, ok := bytes.CutSuffix(key, []byte(".max"))
		for i := range s.Misc {
			if ok && s.Misc[i].Name == string(name) {
				if err := scanUint(&s.Misc[i].Failures, value); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
