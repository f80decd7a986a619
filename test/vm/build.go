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
	"strconv"
	"strings"
)

// testBinary is a compiled test of one package.
type testBinary struct {
	pkg  string // its path below the module, "internal/kernfs"
	path string // the file
}

// name is the package's path as one file name.
func (b testBinary) name() string { return strings.ReplaceAll(b.pkg, "/", "+") }

// cgoTests is a module of its own that needs a C compiler. It is linked statically, as
// there are no libraries in the matrix. The Makefile runs the same binary here.
const cgoTests = "isolation/oci"

// crossCompilers are those of other architectures, as Debian names them. They come
// without libseccomp, and what is made by them does without filters of calls.
var crossCompilers = map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}

// cgo is how the architecture's binary is made, or nil, having said why not.
func cgo(arch string) (env, args []string) {
	cc, tags := "gcc", "seccomp,netgo,osusergo"
	if arch != runtime.GOARCH {
		cc, tags = crossCompilers[arch], "netgo,osusergo"
	}
	_, err := exec.LookPath(cc)
	if err == nil && arch == runtime.GOARCH {
		_, err = os.Stat("/usr/include/seccomp.h")
	}
	if err != nil {
		fmt.Printf("without %s on %s, for lack of a C compiler or of libseccomp-dev: %v\n", cgoTests, arch, err)
		return nil, nil
	}
	return []string{"CGO_ENABLED=1", "GOARCH=" + arch, "CC=" + cc},
		[]string{"test", "-c", "-trimpath", "-tags", tags, "-ldflags", "-s -w -linkmode external -extldflags -static"}
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
	// One command builds as many at a time as there are processors. It names each file
	// by the last name of its package's path: of packages that share it, each is built
	// by another command, into another directory.
	var builds [][]string
	turns := make(map[string]int)
	for path := range strings.FieldsSeq(string(list)) {
		b := testBinary{pkg: strings.TrimPrefix(path, mod+"/")}
		if slices.Contains(notHere, b.pkg) || !containsAny(b.pkg, filters) {
			continue
		}
		name := filepath.Base(path)
		turn := turns[name]
		turns[name]++
		if turn == len(builds) {
			to := filepath.Join(out, strconv.Itoa(turn)) + "/"
			builds = append(builds, []string{"test", "-c", "-trimpath", "-ldflags=-s -w", "-o", to})
		}
		builds[turn] = append(builds[turn], path)
		b.path = filepath.Join(out, strconv.Itoa(turn), name+".test")
		tests = append(tests, b)
	}
	for _, args := range builds {
		if _, err := command(ctx, dir, env, "go", args...); err != nil {
			return nil, err
		}
	}
	// By itself the matrix has it for this machine's architecture only.
	if containsAny(cgoTests, filters) && (arch == runtime.GOARCH || filters != "") {
		b := testBinary{pkg: cgoTests}
		b.path = filepath.Join(out, b.name()+".test")
		if env, args := cgo(arch); env != nil {
			if _, err := command(ctx, filepath.Join(dir, cgoTests), env, "go", append(args, "-o", b.path, ".")...); err != nil {
				return nil, err
			}
			tests = append(tests, b)
		}
	}
	if len(tests) == 0 {
		return nil, fmt.Errorf("no package with tests contains %q", filters)
	}
	return tests, nil
}

func containsAny(s, filters string) bool {
	return slices.ContainsFunc(strings.Split(filters, ","), func(f string) bool { return strings.Contains(s, f) })
}
