// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"strconv"
	"strings"
)

var cpuFilesV2 = &cpuFiles{
	weight: "cpu.weight", idle: "cpu.idle", burst: "cpu.max.burst",
	idleWeights:  []string{"0", "1"}, // "1" since Linux 6.12
	weightText:   func(w uint16) string { return strconv.Itoa(int(w)) },
	sameWeight:   func(text string, w uint16) bool { return text == strconv.Itoa(int(w)) },
	bandwidth:    bandwidthV2,
	setBandwidth: setBandwidthV2,
}

func bandwidthV2(p *planner) (bandwidth, error) {
	text, err := p.knob(ControllerCPU, "cpu.max", "cpu.max")
	if err != nil {
		return bandwidth{}, err
	}
	b, err := parseCPUMax(text)
	if err != nil {
		return bandwidth{}, &FileError{Op: "parse", Path: p.path(ControllerCPU, "cpu.max"), Data: text, Err: err}
	}
	return b, nil
}

// parseCPUMax reads "max 100000".
func parseCPUMax(text string) (bandwidth, error) {
	q, t, ok := strings.Cut(strings.TrimSpace(text), " ")
	quota, err1 := parseAmount(q)
	period, err2 := strconv.ParseUint(t, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return bandwidth{}, errors.New("not a quota and a period")
	}
	return bandwidth{quota, period}, nil
}

func setBandwidthV2(p *planner, from, to bandwidth) {
	p.add(Change{Controller: ControllerCPU, Knob: "cpu.max", File: "cpu.max", Old: from.String(), New: to.String(), stage: from.towards(to)})
}
