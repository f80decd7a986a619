// SPDX-License-Identifier: Apache-2.0

package parse_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/parse"
)

func TestUint(t *testing.T) {
	for in, want := range map[string]uint64{"0": 0, "00": 0, "7": 7, "18446744073709551615": 1<<64 - 1} {
		n, ok := parse.Uint([]byte(in))
		assert.True(t, ok, in)
		assert.Equal(t, want, n, in)
	}
	for _, in := range []string{"", "-1", "+1", " 1", "1 ", "1\n", "1.0", "max", "0x1", "18446744073709551616", "99999999999999999999", "28446744073709551616"} {
		n, ok := parse.Uint([]byte(in))
		assert.False(t, ok, in)
		assert.Zero(t, n, in)
	}
}

func TestDecimal(t *testing.T) {
	for _, in := range []string{"0.00", "100.00", "3.36", "0.01", "99.99", "7", "123456789.25"} {
		want, err := strconv.ParseFloat(in, 64)
		require.NoError(t, err)
		f, ok := parse.Decimal([]byte(in))
		assert.True(t, ok, in)
		assert.Equal(t, want, f, in) //nolint:testifylint // bit for bit
	}
	for _, in := range []string{"", ".", "1.", ".5", "1.2.3", "-1.0", "1e3", "NaN", "inf", "1234567890123456"} {
		f, ok := parse.Decimal([]byte(in))
		assert.False(t, ok, in)
		assert.Zero(t, f, in)
	}
}

func TestPair(t *testing.T) {
	text := []byte("anon 4096\nodd\nkey with spaces\n\nlast 1")
	var got []string
	for len(text) > 0 {
		var k, v []byte
		k, v, text = parse.Pair(text)
		got = append(got, string(k)+"|"+string(v))
	}
	assert.Equal(t, []string{"anon|4096", "odd|", "key|with spaces", "|", "last|1"}, got)
}

func TestFieldLineAssignment(t *testing.T) {
	text := []byte("  8:0 rbytes=1\n8:16\n")
	var got []string
	for {
		var f []byte
		if f, text = parse.Field(text); len(f) == 0 {
			break
		}
		got = append(got, string(f))
	}
	assert.Equal(t, []string{"8:0", "rbytes=1", "8:16"}, got)

	line, rest := parse.Line([]byte("a\nb"))
	assert.Equal(t, "a|b", string(line)+"|"+string(rest))
	line, rest = parse.Line(rest)
	assert.Equal(t, "b", string(line))
	assert.Empty(t, rest)

	k, v, ok := parse.Assignment([]byte("a=b=c"))
	assert.Equal(t, "a|b=c", string(k)+"|"+string(v))
	assert.True(t, ok)
	_, _, ok = parse.Assignment([]byte("a"))
	assert.False(t, ok)
}

func TestNoAllocations(t *testing.T) {
	text := []byte("anon 4096\nfile 8192\n")
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		for rest := text; len(rest) > 0; {
			var v []byte
			_, v, rest = parse.Pair(rest)
			parse.Uint(v)
			parse.Decimal(v)
		}
	}))
}

// FuzzUint holds: what is accepted is exactly what strconv accepts of digits.
func FuzzUint(f *testing.F) {
	for _, s := range []string{"0", "42", "-1", "18446744073709551616", "1_0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := strconv.ParseUint(s, 10, 64)
		digits := err == nil && strings.Trim(s, "0123456789") == ""
		n, ok := parse.Uint([]byte(s))
		assert.Equal(t, digits, ok)
		if ok {
			assert.Equal(t, want, n)
		} else {
			assert.Zero(t, n)
		}
	})
}

// FuzzDecimal holds: what is accepted has the value that strconv gives it.
func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"0.00", "12.34", "1e5", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := parse.Decimal([]byte(s))
		if !ok {
			assert.Zero(t, n)
			return
		}
		want, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		assert.Equal(t, want, n) //nolint:testifylint // bit for bit
	})
}

// FuzzPair holds: the pieces are the text, nothing lost and nothing invented.
func FuzzPair(f *testing.F) {
	f.Add([]byte("a 1\nb 2\n"))
	f.Add([]byte("\n \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 {
			return
		}
		key, value, rest := parse.Pair(text)
		line, after := parse.Line(text)
		assert.Equal(t, after, rest)
		joined := bytes.Clone(key)
		if value != nil {
			joined = append(append(joined, ' '), value...)
		}
		assert.Equal(t, line, joined)
	})
}

// Escaping as the kernel does it is undone.
func FuzzUnescape(f *testing.F) {
	f.Add("/a b\tc\nd\\e")
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)
	f.Fuzz(func(t *testing.T, s string) {
		require.Equal(t, s, parse.Unescape(escape.Replace(s)))
	})
}
