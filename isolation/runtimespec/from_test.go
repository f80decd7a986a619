// SPDX-License-Identifier: Apache-2.0

package runtimespec_test

import (
	"embed"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/runtimespec"
	"github.com/caisson-run/caisson/netns"
)

//go:embed testdata
var testdata embed.FS

var update = flag.Bool("update", false, "write testdata/*.golden")

// bundle is a directory with this configuration.
func bundle(t testing.TB, config []byte) string {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, runtimespec.ConfigFile), config, 0o600))
	return dir
}

// Configurations that generators have written, and what becomes of them.
func TestFromBundle(t *testing.T) {
	files, err := testdata.ReadDir("testdata")
	require.NoError(t, err)
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			config, err := testdata.ReadFile("testdata/" + f.Name())
			require.NoError(t, err)
			dir := bundle(t, config)
			s, left, err := runtimespec.FromBundle("box", dir)
			require.NoError(t, err)
			text, err := json.MarshalIndent(s, "", "\t")
			require.NoError(t, err)
			got := strings.ReplaceAll(string(text), dir, "/bundle") + "\n"
			for _, l := range left {
				got += l.String() + "\n"
			}
			golden := "testdata/" + name + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
				return
			}
			want, err := testdata.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

// What both sides can express comes back as it was.
func TestFromSpecOfToSpec(t *testing.T) {
	for field, c := range changes {
		if c.left != "" || strings.HasPrefix(field, "id") {
			continue
		}
		t.Run(field, func(t *testing.T) {
			s := box()
			c.set(&s)
			spec, _ := convert(t, s, runtimespec.Config{})
			back, left, err := runtimespec.FromSpec(s.ID, spec)
			require.NoError(t, err)
			if s.Namespaces.Network != isolation.NamespaceDefault || !s.Network.IsZero() {
				s.Security.Landlock = isolation.Default // it has no effect there
			}
			if s.Network.Mode == netns.ModeNew { // a loopback device, by either name
				s.Network, s.Namespaces.Network = netns.Spec{}, isolation.NamespaceNew
			}
			assert.Equal(t, asText(t, s), asText(t, back))
			assert.Empty(t, left)
		})
	}
}

func asText(t testing.TB, v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	require.NoError(t, err)
	return string(b)
}

// silent are fields that a sandbox is the same for with the value that the test
// has for them.
var silent = map[string]string{
	"ociVersion":                               "every version 1 is read alike",
	"linux.resources.memory.useHierarchy":      "true is what holds",
	"linux.resources.memory.checkBeforeUpdate": "true is what holds",
}

// Nothing is dropped in silence: whatever a field of the specification is set to
// changes the spec, is named, or is refused.
func TestFromSpecTellsOfEveryField(t *testing.T) {
	base, _ := convert(t, box(), runtimespec.Config{})
	plain, plainLeft, err := runtimespec.FromSpec("box", base)
	require.NoError(t, err)
	n := 0
	leaves(reflect.TypeFor[specs.Spec](), "", nil, func(at string, index []int) {
		n++
		var spec specs.Spec
		require.NoError(t, json.Unmarshal([]byte(asText(t, base)), &spec))
		plant(reflect.ValueOf(&spec).Elem(), index)
		got, left, err := runtimespec.FromSpec("box", &spec)
		if err == nil && got.Equal(plain) && reflect.DeepEqual(left, plainLeft) {
			assert.Contains(t, silent, at, "dropped in silence")
		}
	})
	assert.Greater(t, n, 150)
}

// leaves calls f for every field that holds a value, by its place in each struct
// on the way; elements of slices and maps are one field.
func leaves(t reflect.Type, at string, index []int, f func(at string, index []int)) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		leaves(t.Elem(), at, index, f)
	case reflect.Struct:
		if t.NumField() == 0 {
			f(at, index)
		}
		for i := range t.NumField() {
			field := t.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			next := append(append([]int{}, index...), i)
			name = strings.Trim(at+"."+name, ".")
			switch name {
			case "solaris", "windows", "vm", "zos", "freebsd": // a whole is one value
				f(name, next)
			default:
				leaves(field.Type, name, next, f)
			}
		}
	default:
		f(at, index)
	}
}

// plant sets the field at index to something else, and whatever it takes for that
// to be there. A slice gets another element.
func plant(v reflect.Value, index []int) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			if len(index) == 0 && v.Elem().Kind() == reflect.Struct {
				return
			}
		}
		plant(v.Elem(), index)
	case reflect.Slice:
		elem := reflect.New(v.Type().Elem()).Elem()
		plant(elem, index)
		v.Set(reflect.Append(v, elem))
	case reflect.Map:
		elem := reflect.New(v.Type().Elem()).Elem()
		plant(elem, index)
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(reflect.ValueOf("planted").Convert(v.Type().Key()), elem)
	case reflect.Struct:
		if len(index) > 0 {
			plant(v.Field(index[0]), index[1:])
		}
	case reflect.String:
		v.SetString(v.String() + "planted")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 7)
	default:
		panic("cannot plant a " + v.Type().String())
	}
}
