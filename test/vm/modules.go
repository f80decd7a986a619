// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// module is a kernel module, decompressed.
type module struct {
	name  string
	image []byte
}

// loadOrder reads the modules and what they depend on from an unpacked kernel
// package, each after the ones it needs. The package has no modules.dep, which
// depmod would make; every module names its dependencies itself.
func loadOrder(ctx context.Context, root string, names []string) ([]module, error) {
	files := make(map[string]string)
	builtin := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if base, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok {
			files[canonical(base)] = path
		}
		if filepath.Base(path) == "modules.builtin" {
			list, err := os.ReadFile(path)
			for line := range strings.FieldsSeq(string(list)) {
				builtin[canonical(strings.TrimSuffix(filepath.Base(line), ".ko"))] = true
			}
			return err
		}
		return err
	})
	if err != nil {
		return nil, err
	}

	var order []module
	var add func(name string) error
	add = func(name string) error {
		name = canonical(name)
		done := slices.ContainsFunc(order, func(m module) bool { return m.name == name })
		if done || builtin[name] {
			return nil
		}
		path, ok := files[name]
		if !ok {
			return fmt.Errorf("this kernel has no module %s", name)
		}
		image, err := readModule(ctx, path)
		if err != nil {
			return err
		}
		needs, err := dependencies(image)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		order = append(order, module{name, image})
		return nil
	}
	for _, name := range names {
		name, elsewhere := strings.CutSuffix(name, "?")
		if elsewhere && files[canonical(name)] == "" {
			continue
		}
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// canonical is the kernel's own form of a module's name.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

func readModule(ctx context.Context, path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		return command(ctx, "", nil, "xz", "-dc", path)
	}
	return os.ReadFile(path)
}

// dependencies reads "depends=a,b" of the module's .modinfo section.
func dependencies(image []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok {
			return strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}
