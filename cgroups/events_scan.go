// SPDX-License-Identifier: Apache-2.0

package cgroups

import "github.com/caisson-run/caisson/internal/parse"

// scan adds the text of file f to e.
func (e *Events) scan(f statFile, text []byte) error {
	switch f {
	case fileMemoryEvents:
		return e.Memory.scan(text)
	case fileMemoryFailcntLegacy, fileMemoryMemswFailcntLegacy:
		return e.Memory.scanFailcnt(text)
	case fileMemoryOOMLegacy:
		return e.Memory.scanLegacy(text)
	case fileMemorySwapEvents:
		return e.Swap.scan(text)
	case filePIDsEvents:
		return e.PIDs.scan(text)
	case fileCgroupEvents:
		return e.scanState(text)
	default: // the others count nothing that is an event
		return nil
	}
}

func (e *MemoryEvents) scan(text []byte) (err error) {
	for len(text) > 0 && err == nil {
		var key, value []byte
		key, value, text = parse.Pair(text)
		switch string(key) {
		case "low":
			err = scanUint(&e.Low, value)
		case "high":
			err = scanUint(&e.High, value)
		case "max":
			err = scanUint(&e.Max, value)
		case "oom":
			err = scanUint(&e.OOM, value)
		case "oom_kill":
			err = scanUint(&e.OOMKill, value)
		case "oom_group_kill":
			err = scanUint(&e.OOMGroupKill, value)
		}
	}
	return err
}

// scanFailcnt scans v1's memory.failcnt and memory.memsw.failcnt. A charge that
// fails is counted in one of them, whichever limit it met first.
func (e *MemoryEvents) scanFailcnt(text []byte) error {
	var n Reading[uint64]
	err := scanUint(&n, trim(text))
	if err == nil {
		e.Max = ReadingOf(e.Max.v + n.v)
	}
	return err
}

// scanLegacy scans v1's memory.oom_control.
func (e *MemoryEvents) scanLegacy(text []byte) error { return scanKey(&e.OOMKill, text, "oom_kill") }

func (e *SwapEvents) scan(text []byte) (err error) {
	for len(text) > 0 && err == nil {
		var key, value []byte
		key, value, text = parse.Pair(text)
		switch string(key) {
		case "high":
			err = scanUint(&e.High, value)
		case "max":
			err = scanUint(&e.Max, value)
		case "fail":
			err = scanUint(&e.Fail, value)
		}
	}
	return err
}

func (e *PIDsEvents) scan(text []byte) error { return scanKey(&e.Max, text, "max") }

func (e *Events) scanState(text []byte) (err error) {
	for len(text) > 0 && err == nil {
		var key, value []byte
		key, value, text = parse.Pair(text)
		switch string(key) {
		case "populated":
			err = scanBool(&e.Populated, value)
		case "frozen":
			err = scanBool(&e.Frozen, value)
		}
	}
	return err
}

func scanBool(into *Reading[bool], b []byte) error {
	switch string(b) {
	case "0":
		*into = ReadingOf(false)
	case "1":
		*into = ReadingOf(true)
	default:
		return notNumber(b)
	}
	return nil
}
