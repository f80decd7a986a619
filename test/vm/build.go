// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// cgoTests is a module of its own that needs a C compiler, and so is built for this
// machine's architecture alone: statically, as there are no libraries in the matrix.
// The Makefile runs the same binary here.
const cgoTests = "isolation/oci"

var cgoBuild = []string{
	"test", "-c", "-trimpath", "-tags", "seccomp,netgo,osusergo", "-ldflags", "-s -w -linkmode external -extldflags -static",
}

// cgo reports whether there is what it takes, and says so if not.
func cgo() bool {
	_, err := exec.LookPath("gcc")
	if err == nil {
		_, err = os.Stat("/usr/include/seccomp.h")
	}
	if err != nil {
		fmt.Println("without", cgoTests+", for lack of a C compiler or of libseccomp-dev:", err)
	}
	return err == nil
}

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
	if containsAny(cgoTests, filters) && arch == runtime.GOARCH && cgo() {
		b := testBinary{pkg: cgoTests, path: filepath.Join(out, strings.ReplaceAll(cgoTests, "/", "+")+".test")}
		if _, err := command(ctx, filepath.Join(dir, cgoTests), []string{"CGO_ENABLED=1"}, "go", append(slices.Clone(cgoBuild), "-o", b.path, ".")...); err != nil {
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
