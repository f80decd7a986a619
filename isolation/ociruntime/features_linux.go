// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/isolation"
)

// schedules is an error unless the runtime says that it knows this version of the
// specification: an older one would ignore process.scheduler and ioPriority.
func (d *Driver) schedules(ctx context.Context, version string) error {
	path, err := d.lookup()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "features")
	cmd.Env, cmd.WaitDelay = []string{"PATH=" + os.Getenv("PATH")}, drained
	var said features
	cmd.Stdout = &said
	err = cmd.Run()
	if ctx.Err() != nil {
		return &RuntimeError{Binary: d.cfg.Binary, Command: "features", Err: context.Cause(ctx)}
	}
	var knows struct {
		Max string `json:"ociVersionMax"`
	}
	if err == nil {
		err = json.Unmarshal(said.text, &knows)
	}
	if err == nil && newer(knows.Max, version) {
		return nil
	}
	return &isolation.UnsupportedError{
		Feature: "process.scheduling", Since: "version " + version + " of the specification",
		Reason: d.cfg.Binary + " does not say that it knows that one", Err: err,
	}
}

// features is the answer of a runtime that does not say too much.
type features struct{ text []byte }

func (f *features) Write(p []byte) (int, error) {
	const most = 256 << 10
	f.text = append(f.text, p[:min(len(p), most-len(f.text))]...)
	return len(p), nil
}

// newer reports whether version a, "1.2.0" or "1.2.0-rc.1", is b or later.
func newer(a, b string) bool {
	parse := func(s string) (n [3]int, ok bool) {
		s, _, _ = strings.Cut(s, "-")
		parts := strings.Split(s, ".")
		if len(parts) != len(n) {
			return n, false
		}
		for i, p := range parts {
			v, err := strconv.ParseUint(p, 10, 31)
			if err != nil {
				return n, false
			}
			n[i] = int(v)
		}
		return n, true
	}
	x, okX := parse(a)
	y, okY := parse(b)
	if !okX || !okY {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return x[i] > y[i]
		}
	}
	return true
}
