// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/isolation"
)

// ConfigFile is the name of the configuration in a bundle.
const ConfigFile = "config.json"

// maxConfig is how much of a configuration is read. Docker's are some 30 KiB.
const maxConfig = 4 << 20

// ReadBundle reads the configuration of the bundle in dir, and makes the paths in
// it that are relative to dir absolute. left are properties that this version of
// the specification does not have. A file that is no regular one, is larger than
// 4 MiB, is no JSON, or has a property twice or in the wrong case, which runtimes
// read differently, is an error that matches [isolation.ErrInvalid].
func ReadBundle(dir string) (spec *specs.Spec, left []Leftover, err error) {
	file := filepath.Join(dir, ConfigFile)
	b, err := read(file)
	if err != nil {
		return nil, nil, err
	}
	if spec, left, err = parse(b); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, nil, err
	}
	absolute := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if spec.Root != nil {
		absolute(&spec.Root.Path)
	}
	for i := range spec.Mounts {
		if m := &spec.Mounts[i]; m.Type == "bind" || strings.Contains(" "+strings.Join(m.Options, " "), "bind") {
			absolute(&m.Source)
		}
	}
	return spec, left, nil
}

// FromBundle is [FromSpec] of what [ReadBundle] reads.
func FromBundle(id, dir string) (s isolation.Spec, left []Leftover, err error) {
	spec, unknown, err := ReadBundle(dir)
	if err != nil {
		return isolation.Spec{}, nil, err
	}
	if s, left, err = FromSpec(id, spec); err != nil {
		return isolation.Spec{}, nil, fmt.Errorf("%s: %w", dir, err)
	}
	return s, append(unknown, left...), nil
}

// read reads a file that may be anything.
func read(file string) ([]byte, error) {
	// Neither a link to another file nor the other end of a pipe.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: file, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(b) > maxConfig {
		err = &isolation.InvalidError{Field: "configuration", Value: file, Reason: "larger than 4 MiB"}
	}
	return b, err
}

// parse reads a configuration, strictly.
func parse(b []byte) (*specs.Spec, []Leftover, error) {
	invalid := func(err error) error {
		return &isolation.InvalidError{Field: "configuration", Reason: clip(err.Error())}
	}
	var spec specs.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return nil, nil, invalid(err)
	}
	p := &properties{dec: json.NewDecoder(bytes.NewReader(b))}
	if err := p.value(reflect.TypeFor[specs.Spec](), ""); err != nil {
		return nil, nil, invalid(err)
	}
	return &spec, p.unknown, nil
}

// properties looks at the names in a JSON text that is well formed.
type properties struct {
	dec     *json.Decoder
	unknown []Leftover
}

// value walks over a value of type t, nil for one that nobody knows.
func (p *properties) value(t reflect.Type, at string) error {
	tok, err := p.dec.Token()
	if err != nil {
		return err
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch tok {
	case json.Delim('{'):
		return p.object(t, at)
	case json.Delim('['):
		var elem reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			elem = t.Elem()
		}
		for p.dec.More() {
			if err := p.value(elem, at); err != nil {
				return err
			}
		}
		_, err = p.dec.Token()
	}
	return err
}

func (p *properties) object(t reflect.Type, at string) error {
	seen := make(map[string]bool)
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return err
		}
		key := tok.(string)
		name := strings.TrimPrefix(at+"."+key, ".")
		if seen[key] {
			return fmt.Errorf("%s is there twice", name)
		}
		seen[key] = true
		var inner reflect.Type
		switch {
		case t == nil:
		case t.Kind() == reflect.Map:
			inner = t.Elem()
		case t.Kind() == reflect.Struct:
			var alike string
			if inner, alike = property(t, key); alike != "" {
				return fmt.Errorf("%s is not written %s", name, alike)
			}
			if inner == nil {
				p.unknown = append(p.unknown, Leftover{Field: clip(name), Reason: "version " + specs.Version + " of the specification does not have it"})
			}
		}
		if err := p.value(inner, name); err != nil {
			return err
		}
	}
	_, err := p.dec.Token()
	return err
}

// property is the type of a field, or how the field is written that Go takes the
// key for.
func property(t reflect.Type, key string) (typ reflect.Type, alike string) {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
		case name == key:
			return f.Type, ""
		case strings.EqualFold(name, key):
			alike = name
		}
	}
	return nil, alike
}

// equalJSON reports whether two values are written alike.
func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
