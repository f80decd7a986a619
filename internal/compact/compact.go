// SPDX-License-Identifier: Apache-2.0

package compact

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// Object is a JSON object in the making. Members appear in the order of the
// calls; the zero Object has none.
type Object struct {
	buf []byte
	err error
}

// NewObject is an object with room for so many bytes.
func NewObject(size int) *Object { return &Object{buf: make([]byte, 0, size)} }

// key begins a member.
func (o *Object) key(name string) {
	switch {
	case len(o.buf) == 0:
		o.buf = append(o.buf, '{')
	case o.buf[len(o.buf)-1] != '{':
		o.buf = append(o.buf, ',')
	}
	o.buf = append(append(append(o.buf, '"'), name...), '"', ':')
}

// Object adds an object whose members fill adds to o.
func (o *Object) Object(name string, fill func(o *Object)) {
	o.key(name)
	o.buf = append(o.buf, '{')
	fill(o)
	o.buf = append(o.buf, '}')
}

// Objects adds a list of n objects, whose members fill adds to o.
func (o *Object) Objects(name string, n int, fill func(i int, o *Object)) {
	o.key(name)
	o.buf = append(o.buf, '[')
	for i := range n {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = append(o.buf, '{')
		fill(i, o)
		o.buf = append(o.buf, '}')
	}
	o.buf = append(o.buf, ']')
}

// Text adds a string.
func (o *Object) Text(name, value string) {
	o.key(name)
	o.text(value)
}

func (o *Object) text(value string) {
	for i := range len(value) {
		// What encoding/json would escape, or replace, is left to it.
		if c := value[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c == 0x7f {
			o.any(value)
			return
		}
	}
	o.buf = append(append(append(o.buf, '"'), value...), '"')
}

// Texts adds a list of strings; nil is null.
func (o *Object) Texts(name string, values []string) {
	o.key(name)
	if values == nil {
		o.buf = append(o.buf, "null"...)
		return
	}
	o.buf = append(o.buf, '[')
	for i, v := range values {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.text(v)
	}
	o.buf = append(o.buf, ']')
}

// Number adds a number.
func (o *Object) Number(name string, value uint64) {
	o.key(name)
	o.buf = strconv.AppendUint(o.buf, value, 10)
}

// Int adds a number that may be negative.
func (o *Object) Int(name string, value int64) {
	o.key(name)
	o.buf = strconv.AppendInt(o.buf, value, 10)
}

// True adds a truth.
func (o *Object) True(name string) { o.Bool(name, true) }

// Bool adds a truth value.
func (o *Object) Bool(name string, value bool) {
	o.key(name)
	o.buf = strconv.AppendBool(o.buf, value)
}

// Time adds a time as time.Time marshals itself.
func (o *Object) Time(name string, t time.Time) {
	o.key(name)
	o.buf = append(o.buf, '"')
	buf, err := t.AppendText(o.buf)
	if err != nil {
		o.fail(err)
		return
	}
	o.buf = append(buf, '"')
}

// Raw adds a value that is JSON already.
func (o *Object) Raw(name string, value []byte) {
	o.key(name)
	o.buf = append(o.buf, value...)
}

// Any adds a value by way of [Marshal].
func (o *Object) Any(name string, value any) {
	o.key(name)
	o.any(value)
}

func (o *Object) any(value any) {
	b, err := Marshal(value)
	if err != nil {
		o.fail(err)
	}
	o.buf = append(o.buf, b...)
}

func (o *Object) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}

// Bytes is the object, or the first error of what it was given.
func (o *Object) Bytes() ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	if len(o.buf) == 0 {
		o.buf = append(o.buf, '{')
	}
	return append(o.buf, '}'), nil
}

// Marshal is [json.Marshal], but takes a value that marshals itself at its word
// instead of reading the answer again.
func Marshal(v any) ([]byte, error) {
	if m, ok := v.(json.Marshaler); ok {
		return m.MarshalJSON()
	}
	return json.Marshal(v)
}
