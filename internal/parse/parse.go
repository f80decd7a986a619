// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// Line cuts the first line off text, without its newline. There is no further
// line when text is empty.
func Line(text []byte) (line, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}

// Field cuts the first word off text. Words are separated by spaces and
// newlines; field is empty when no word is left.
func Field(text []byte) (field, rest []byte) {
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	for i, c := range text {
		if isSpace(c) {
			return text[:i], text[i+1:]
		}
	}
	return text, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' }

// Pair cuts the first "key value" line off text, as in the kernel's flat keyed
// files. A line without a space is a key without a value.
func Pair(text []byte) (key, value, rest []byte) {
	// One pass over a line that is a dozen bytes long beats two calls of
	// bytes.IndexByte.
	space := -1
	for i, c := range text {
		switch c {
		case ' ':
			if space < 0 {
				space = i
			}
		case '\n':
			if space < 0 {
				return text[:i], nil, text[i+1:]
			}
			return text[:space], text[space+1 : i], text[i+1:]
		}
	}
	if space < 0 {
		return text, nil, nil
	}
	return text[:space], text[space+1:], nil
}

// Assignment splits "key=value" at the first equals sign. ok is false if there
// is none.
func Assignment(field []byte) (key, value []byte, ok bool) {
	i := bytes.IndexByte(field, '=')
	if i < 0 {
		return nil, nil, false
	}
	return field[:i], field[i+1:], true
}

// Uint is the number whose decimal digits are the whole of b. ok is false for
// anything else, a sign and a number above 2^64-1 included.
func Uint(b []byte) (n uint64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > math.MaxUint64/10 {
			return 0, false
		}
		n = n*10 + d
		if n < d { // wrapped
			return 0, false
		}
	}
	return n, true
}

// Decimal is the number written as digits with at most one point between them,
// "12.34", rounded as strconv.ParseFloat does. ok is false for anything else,
// signs, exponents and more than 15 digits included.
func Decimal(b []byte) (f float64, ok bool) {
	var n uint64
	div, digits, point := 1.0, 0, false
	for i, c := range b {
		switch d := uint64(c - '0'); {
		case d <= 9:
			n = n*10 + d
			if digits++; digits > 15 {
				return 0, false
			}
			if point {
				div *= 10
			}
		case c == '.' && !point && i > 0 && i < len(b)-1:
			point = true
		default:
			return 0, false
		}
	}
	if digits == 0 {
		return 0, false
	}
	// Both are whole numbers below 2^53, so that only the division rounds.
	return float64(n) / div, true
}

// Unescape undoes the octal escapes that the kernel uses for white space
// and backslashes in lists of mounts: "\040" is a space. It allocates only where
// there are some.
func Unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
