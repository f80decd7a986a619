// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"math"
	"strconv"
	"strings"
	"syscall"
)

// strip is the kernel's strstrip.
func strip(s string) string { return strings.Trim(s, " \t\n\v\f\r") }

// parseUint is kstrtoull with base 0: digits, 0x or a leading 0, a sign, and one
// newline at the end.
func parseUint(s string) (uint64, error) {
	s = strings.TrimSuffix(s, "\n")
	return digits(strings.TrimPrefix(s, "+"))
}

func digits(s string) (uint64, error) {
	base, body := 10, s
	switch {
	case len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X'):
		base, body = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base, body = 8, s[1:]
	}
	if strings.ContainsAny(body, "_+-") {
		return 0, syscall.EINVAL
	}
	n, err := strconv.ParseUint(body, base, 64)
	if err != nil {
		if ne, ok := err.(*strconv.NumError); ok && ne.Err == strconv.ErrRange { //nolint:errorlint // ParseUint's own
			return 0, syscall.ERANGE
		}
		return 0, syscall.EINVAL
	}
	return n, nil
}

// parseInt is kstrtoll with base 0, within bits.
func parseInt(s string, bits uint) (int64, error) {
	s = strings.TrimSuffix(s, "\n")
	body, negative := strings.CutPrefix(s, "-")
	if !negative {
		body = strings.TrimPrefix(s, "+")
	}
	n, err := digits(body)
	if err != nil {
		return 0, err
	}
	most := uint64(1)<<(bits-1) - 1
	if negative {
		most++
	}
	if n > most {
		return 0, syscall.ERANGE
	}
	if negative {
		return -int64(n), nil
	}
	return int64(n), nil
}

// parseMem is the kernel's memparse: a number with base 0 and a suffix. What
// follows is rest. It wraps on overflow and takes nothing for 0.
func parseMem(s string) (n uint64, rest string) {
	base := uint64(10)
	switch {
	case len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') && hexDigit(s[2]) < 16:
		base, s = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base, s = 8, s[1:]
	}
	for len(s) > 0 && hexDigit(s[0]) < base {
		n = n*base + hexDigit(s[0])
		s = s[1:]
	}
	if len(s) > 0 {
		if i := strings.IndexByte("KMGTPE", s[0]&^0x20); i >= 0 {
			n <<= 10 * uint(i+1)
			s = s[1:]
		}
	}
	return n, s
}

func hexDigit(c byte) uint64 {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return uint64(c|0x20-'a') + 10
	}
	return math.MaxUint64
}

// noLimit is an unlimited page counter, in bytes.
const noLimit = math.MaxUint64

// parsePages is page_counter_memparse: bytes rounded down to units of whole
// pages; word is unlimited.
func (m *Machine) parsePages(s, word string, unit uint64) (uint64, error) {
	s = strip(s)
	if s == word {
		return noLimit, nil
	}
	n, rest := parseMem(s)
	if rest != "" {
		return 0, syscall.EINVAL
	}
	if n/m.cfg.PageSize >= m.mostPages() {
		return noLimit, nil
	}
	return n - n%unit, nil
}

// mostPages is PAGE_COUNTER_MAX.
func (m *Machine) mostPages() uint64 { return math.MaxInt64 / m.cfg.PageSize }

// bytes is an amount as v2 shows it.
func bytes(n uint64) string {
	if n == noLimit {
		return "max"
	}
	return strconv.FormatUint(n, 10)
}

// bytesV1 is an amount as v1 shows it.
func (m *Machine) bytesV1(n, unit uint64) string {
	if n == noLimit {
		n = m.mostPages() * m.cfg.PageSize
		n -= n % unit
	}
	return strconv.FormatUint(n, 10)
}

// amount reads what bytes or bytesV1 made.
func (g *group) amount(file string) uint64 {
	text := g.text(file)
	if text == "max" || text == "-1" {
		return noLimit
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	if n >= 1<<62 {
		return noLimit
	}
	return n
}

// line is what follows key in the line that begins with it.
func line(text, key string) string {
	for l := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		if k == key {
			return v
		}
	}
	return ""
}

// setLine replaces the line that begins with key, or drops it if rest is empty.
// New lines are the last.
func setLine(text, key, rest string) string {
	var lines []string
	done := rest == ""
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if k, _, _ := strings.Cut(l, " "); k == key {
			if rest == "" {
				continue
			}
			l, done = key+" "+rest, true
		}
		lines = append(lines, l)
	}
	if !done {
		lines = append(lines, key+" "+rest)
	}
	return strings.Join(lines, "\n")
}

// assignment is the value of name in "a=1 b=2".
func assignment(text, name string) (string, bool) {
	for f := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			return v, true
		}
	}
	return "", false
}
