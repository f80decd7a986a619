// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestNewer(t *testing.T) {
	for _, v := range []string{"1.1.0", "1.2.0", "1.10.0", "2.0.0", "1.1.0-rc.1"} {
		assert.True(t, newer(v, "1.1.0"), v)
	}
	for _, v := range []string{"1.0.2-dev", "1.0.0", "0.9.9", "", "1", "1.2", "1.2.x", "1.2.0.0", "-1.2.0", "99999999999.0.0"} {
		assert.False(t, newer(v, "1.1.0"), v)
	}
}

func TestLogged(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		`{"level":"error","msg":"first"}` + "\n" + `{"level":"warning","msg":"w"}` + "\n":    "first",
		`{"level":"error","msg":"first"}` + "\n" + `{"level":"error","msg":"second"}` + "\n": "second",
		"no JSON\n": "no JSON\n",
	} {
		assert.Equal(t, want, logged([]byte(text)))
	}
}

// FuzzOutput takes anything for what a runtime says.
func FuzzOutput(f *testing.F) {
	f.Add([]byte(`{"level":"error","msg":"a\u001b[31m"}`+"\n"), []byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, log, said []byte) {
		s := printable(logged(log), string(said))
		assert.LessOrEqual(t, len(s), maxOutput)
		assert.True(t, utf8.ValidString(s))
		assert.Equal(t, -1, strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", s)
	})
}
