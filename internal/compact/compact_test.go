// SPDX-License-Identifier: Apache-2.0

package compact

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type example struct {
	Name  string          `json:"name"`
	List  []string        `json:"list"`
	N     uint64          `json:"n"`
	Yes   bool            `json:"yes"`
	At    time.Time       `json:"at"`
	Raw   json.RawMessage `json:"raw"`
	Inner struct {
		Empty struct{} `json:"empty"`
		Name  string   `json:"name"`
		N     uint64   `json:"n"`
	} `json:"inner"`
	Other map[string]int `json:"other"`
}

func (e example) object() ([]byte, error) {
	o := NewObject(64)
	o.Text("name", e.Name)
	o.Texts("list", e.List)
	o.Number("n", e.N)
	o.True("yes")
	o.Time("at", e.At)
	o.Raw("raw", e.Raw)
	o.Object("inner", func(o *Object) {
		o.Object("empty", func(*Object) {})
		o.Text("name", e.Inner.Name)
		o.Number("n", e.Inner.N)
	})
	o.Any("other", e.Other)
	return o.Bytes()
}

// The result is encoding/json's to the byte, whatever the strings hold.
func FuzzObject(f *testing.F) {
	f.Add("web-1", "a", uint64(0), int64(0))
	f.Add("<&>\"\\\n\x00\x7f", "\xff\u2028", uint64(math.MaxUint64), int64(1e18))
	f.Fuzz(func(t *testing.T, name, item string, n uint64, at int64) {
		for _, list := range [][]string{nil, {}, {item}, {item, name}} {
			e := example{
				Name: name, List: list, N: n, Yes: true, At: time.Unix(0, at).UTC(),
				Raw: json.RawMessage(`{"a":1}`), Other: map[string]int{item: 1},
			}
			e.Inner.Name, e.Inner.N = item+"{", n
			want, err := json.Marshal(e)
			require.NoError(t, err)
			got, err := e.object()
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
		}
	})
}

func TestObject(t *testing.T) {
	var o Object
	got, err := o.Bytes()
	require.NoError(t, err)
	assert.Equal(t, "{}", string(got))

	for what, add := range map[string]func(*Object){
		"a value":        func(o *Object) { o.Any("x", func() {}) },
		"a time":         func(o *Object) { o.Time("x", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) },
		"a later member": func(o *Object) { o.Any("x", func() {}); o.Text("y", "z") },
	} {
		var o Object
		add(&o)
		got, err := o.Bytes()
		require.Error(t, err, what)
		assert.Empty(t, got, what)
	}
}
