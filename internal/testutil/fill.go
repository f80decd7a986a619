// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// Filled gives values of type T: one with everything in it set, and for each
// field, however deep, one with that field alone. It is for what must not forget
// a field that is added later. Types that read text or JSON are set to the first
// of texts that they accept as something other than their zero.
func Filled[T any](texts ...string) func(yield func(name string, v T) bool) {
	return func(yield func(string, T) bool) {
		var all T
		f := &filler{texts: texts, only: -1}
		f.fill(reflect.ValueOf(&all).Elem(), "")
		if !yield("everything", all) {
			return
		}
		for i := range f.n {
			var v T
			f := &filler{texts: texts, only: i}
			f.fill(reflect.ValueOf(&v).Elem(), "")
			if !yield(f.name, v) {
				return
			}
		}
	}
}

type filler struct {
	texts []string
	n     int
	only  int // the leaf to set; -1: all
	name  string
}

// leaf reports whether the next leaf is to be set.
func (f *filler) leaf(name string) bool {
	set := f.only < 0 || f.only == f.n
	if set {
		f.name = name
	}
	f.n++
	return set
}

func (f *filler) fill(v reflect.Value, name string) {
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		if f.leaf(name) {
			*p = time.Unix(1, 2).UTC()
		}
		return
	case *json.RawMessage:
		if f.leaf(name) {
			*p = json.RawMessage(`{"a":1}`)
		}
		return
	case json.Unmarshaler:
		f.parse(v, name, func(s string) error { return p.UnmarshalJSON(fmt.Appendf(nil, "%q", s)) })
		return
	case encoding.TextUnmarshaler:
		f.parse(v, name, func(s string) error { return p.UnmarshalText([]byte(s)) })
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				f.fill(v.Field(i), name+"."+field.Name)
			}
		}
	case reflect.Pointer:
		to := reflect.New(v.Type().Elem())
		if n := f.n; f.some(to.Elem(), name, n) {
			v.Set(to)
		}
	case reflect.Slice:
		list := reflect.MakeSlice(v.Type(), 1, 1)
		if n := f.n; f.some(list.Index(0), name+"[0]", n) {
			v.Set(list)
		}
	case reflect.Map:
		if f.leaf(name) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			g := &filler{texts: f.texts, only: -1}
			g.fill(key, "")
			g.fill(value, "")
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		if f.leaf(name) {
			v.SetString("text")
		}
	case reflect.Bool:
		if f.leaf(name) {
			v.SetBool(true)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if f.leaf(name) {
			v.SetInt(7)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if f.leaf(name) {
			v.SetUint(7)
		}
	case reflect.Float32, reflect.Float64:
		if f.leaf(name) {
			v.SetFloat(7.5)
		}
	default:
		panic("testutil: cannot fill " + name + ", a " + v.Type().String())
	}
}

// some fills what is behind a pointer or in a list, whose first leaf is number
// first, and reports whether anything in it was set.
func (f *filler) some(v reflect.Value, name string, first int) bool {
	f.fill(v, name)
	return f.only < 0 || first <= f.only && f.only < f.n
}

func (f *filler) parse(v reflect.Value, name string, parse func(string) error) {
	if !f.leaf(name) {
		return
	}
	for _, s := range f.texts {
		if parse(s) == nil && !v.IsZero() {
			return
		}
	}
	panic("testutil: no text that " + name + ", a " + v.Type().String() + ", accepts")
}
