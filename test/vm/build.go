// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// testBinary is a compiled test of one package.
type testBinary struct {
	pkg  string // its path below the module, "internal/kernfs"
	path string // the file
}

// name is the package's path as one file name.
func (b testBinary) name() string { return strings.ReplaceAll(b.pkg, "/", "+") }

// buildTests compiles the static test binary of every package that has tests
// and whose path contains one of the filters.
func buildTests(ctx context.Context, work, arch, filters string) ([]testBinary, error) {
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}
	root, err := command(ctx, "", nil, "go", "list", "-m", "-f", "{{.Dir}} {{.Path}}")
	if err != nil {
		return nil, err
	}
	dir, mod, _ := strings.Cut(strings.TrimSpace(string(root)), " ")
	list, err := command(ctx, dir, env, "go", "list", "-e",
		"-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...")
	if err != nil {
		return nil, err
	}
	out := filepath.Join(work, arch)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	var tests []testBinary
	for path := range strings.FieldsSeq(string(list)) {
		b := testBinary{pkg: strings.TrimPrefix(path, mod+"/")}
		if slices.Contains(notHere, b.pkg) || !containsAny(b.pkg, filters) {
			continue
		}
		b.path = filepath.Join(out, b.name()+".test")
		if _, err := command(ctx, dir, env, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", b.path, path); err != nil {
			return nil, err
		}
		tests = append(tests, b)
	}
	if len(tests) == 0 {
		return nil, fmt.Errorf("no package with tests contains %q", filters)
	}
	return tests, nil
}

func containsAny(s, filters string) bool {
	return slices.ContainsFunc(strings.Split(filters, ","), func(f string) bool { return strings.Contains(s, f) })
}
