// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An id is a plain word, whatever it is used in (fault 59, path traversal).
func TestValidateID(t *testing.T) {
	for _, id := range []string{"a", "web-1", "A.b_c-d", "0", strings.Repeat("x", 64)} {
		assert.NoError(t, ValidateID(id), id)
	}
	for _, id := range []string{
		"", ".", "..", "/", "a/b", "../a", "a\x00", "-a", "a-", ".a", "a.", "_a", "a--b", "a..b", "a._b",
		"a b", "a\n", "ä", "日本", "a\u202eb", strings.Repeat("x", 65), strings.Repeat("x", 300), "%n", "$(id)", "a;b",
	} {
		err := ValidateID(id)
		require.ErrorIs(t, err, ErrInvalid, "%q", id)
		assert.Less(t, len(err.Error()), 500, "a hostile id does not flood the message")
	}
}

// FuzzValidateID holds that an accepted id is one plain path element and
// nothing that a command or a shell would read as more.
func FuzzValidateID(f *testing.F) {
	for _, s := range []string{"web-1", "..", "a/b", "-x", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if ValidateID(id) != nil {
			return
		}
		require.NotEmpty(t, id)
		require.LessOrEqual(t, len(id), maxID)
		require.NotContains(t, id, "..")
		require.False(t, strings.ContainsAny(id, "/\x00 \t\n\\$`'\"%"))
		require.NotContains(t, ".-_", id[:1])
	})
}

func TestValidateLabels(t *testing.T) {
	assert.Empty(t, validateLabels(map[string]string{"app": "web", "caisson.run/tier": "front end", "leer": ""}))
	many := map[string]string{}
	for i := range 65 {
		many[strings.Repeat("k", i+1)] = "v"
	}
	for name, labels := range map[string]map[string]string{
		"empty key":   {"": "v"},
		"long key":    {strings.Repeat("k", 129): "v"},
		"equals sign": {"a=b": "v"},
		"space":       {"a b": "v"},
		"NUL":         {"a": "v\x00"},
		"newline":     {"a": "v\nw"},
		"not UTF-8":   {"a": "\xff"},
		"long value":  {"a": strings.Repeat("v", 4097)},
		"too many":    many,
	} {
		errs := validateLabels(labels)
		require.NotEmpty(t, errs, name)
		assert.ErrorIs(t, errs[0], ErrInvalid)
	}
}
