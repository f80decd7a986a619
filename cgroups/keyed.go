// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
)

// lineOf returns what follows key in the line that begins with it: io.max,
// misc.max and others have one line for each device or resource.
func lineOf(text, key string) (rest string, ok bool) {
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		if k == key {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// keyed is lineOf as a canonical form, with what a missing line means.
func keyed(key, missing string) func(string) string {
	return func(text string) string {
		if v, ok := lineOf(text, key); ok {
			return v
		}
		return missing
	}
}

// fieldOf returns the value of name in "rbps=1048576 wbps=max".
func fieldOf(line, name string) (string, bool) {
	for f := range strings.FieldsSeq(line) {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// noLimit is what "max" is in comparisons.
const noLimit = math.MaxUint64

// hugeV1 is where v1 puts "unlimited": LONG_MAX rounded down to some page size.
// No machine has as much.
const hugeV1 = 1 << 62

// parseAmount reads a number or "max"; v1's stand-ins for unlimited are noLimit
// too.
func parseAmount(text string) (uint64, error) {
	s := strings.TrimSpace(text)
	if s == wordMax || s == "-1" {
		return noLimit, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, &FileError{Op: "parse", Data: s, Err: errors.New("not an amount")}
	}
	if n >= hugeV1 {
		return noLimit, nil
	}
	return n, nil
}

// amountText writes an amount with v2's or v1's word for unlimited.
func amountText(n uint64, unlimited string) string {
	if n == noLimit {
		return unlimited
	}
	return strconv.FormatUint(n, 10)
}

// canonAmount makes every spelling of unlimited "max".
func canonAmount(text string) string {
	if n, err := parseAmount(text); err == nil && n == noLimit {
		return wordMax
	}
	return strings.TrimSpace(text)
}

// amount is the limit as a number; def is the kernel's default.
func (l Limit) amount(def uint64) uint64 {
	switch l.is {
	case unlimited:
		return noLimit
	case clearing:
		return def
	case set, unset:
	}
	return l.n
}

// limitOf is the limit that an amount is.
func limitOf(n uint64) Limit {
	if n == noLimit {
		return Max()
	}
	return Limit{set, n}
}

// whole rounds a limit down to a multiple of unit, as the kernel does, and
// refuses what that would make nothing.
func whole(knob string, n, unit uint64) (uint64, error) {
	if n == noLimit || n == 0 {
		return n, nil
	}
	if n < unit {
		return 0, &InvalidError{Field: knob, Value: strconv.FormatUint(n, 10),
			Reason: "less than a page of " + strconv.FormatUint(unit, 10) + " bytes, which the kernel would make 0"}
	}
	return n - n%unit, nil
}

// rounded says in a change's Why that less is written than was asked for.
func rounded(why string, asked, written, unit uint64) string {
	if asked == written {
		return why
	}
	if why != "" {
		why += "; "
	}
	return why + strconv.FormatUint(asked, 10) + " rounded down to pages of " + strconv.FormatUint(unit, 10) + " bytes"
}

// isAbsent reports whether err says that there is no such file, in a group that
// there is.
func isAbsent(err error) bool { return errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrGone) }
