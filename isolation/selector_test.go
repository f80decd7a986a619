// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSelector(t *testing.T) {
	web := map[string]string{"app": "web", "tier": "front", "canary": ""}
	for text, want := range map[string]bool{
		"":                             true,
		"app=web":                      true,
		"app==web":                     true,
		"app = web , tier = front":     true,
		"app=api":                      false,
		"app!=api":                     true,
		"app!=web":                     false,
		"owner!=me":                    true, // who does not have it, too
		"app in (web,api)":             true,
		"app in ( api , db )":          false,
		"app notin (api)":              true,
		"owner notin (me)":             true,
		"canary":                       true,
		"!canary":                      false,
		"!owner":                       true,
		"canary=":                      true,
		"tier=":                        false,
		"app in (web),!owner,tier!=db": true,
	} {
		sel, err := ParseSelector(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, sel.Matches(web), text)
	}
	assert.Equal(t, "app=web,tier=front", Select(map[string]string{"tier": "front", "app": "web"}).String())
	assert.Nil(t, Select(nil))
}

func TestSelectorRefuses(t *testing.T) {
	for _, text := range []string{
		",", "app=web,", "=web", "!", "app web", "app in web", "app in (web", "app=a b", "app=(a)", "app in ()x",
		"a\x00=b", "app=we\nb", "!app=web",
	} {
		sel, err := ParseSelector(text)
		assert.ErrorIs(t, err, ErrInvalid, "%q", text)
		assert.Nil(t, sel, text)
	}
}

// FuzzParseSelector holds that what is accepted reads the same again once it is
// written.
func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"app=web,tier!=db", "app in (a,b,)", "x notin (,)", "!a,b", "a=", "a===b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sel, err := ParseSelector(text)
		if err != nil {
			require.Nil(t, sel)
			return
		}
		again, err := ParseSelector(sel.String())
		require.NoError(t, err)
		require.Equal(t, sel, again)
	})
}
