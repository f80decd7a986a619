// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"path"
	"regexp"
	"slices"
)

// foreignTests are tests of other people's containers, and with their runtimes.
var foreignTests = []string{"test/e2e", "isolation/ociruntime"}

// runtimes are other people's container runtimes, as classes of what an
// environment offers.
var (
	ociRuntimes = []string{"runc", "crun"}
	runtimes    = append([]string{"dockerd", "docker", "containerd"}, ociRuntimes...)
)

func (b testBinary) needForeign() bool { return slices.Contains(foreignTests, b.pkg) }

// foreignPackages are the runtimes and what they need.
func foreignPackages(k kernel) packages {
	names := ociRuntimes
	if k.systemd {
		names = []string{"docker.io", "crun"}
	}
	return packages{"foreign-", k.suites, k.arch, func(ctx context.Context, a apt) error {
		return withDependencies(ctx, a, names...)
	}}
}

// library is one that the loader finds.
var library = regexp.MustCompile(`^usr/lib(64|/[^/]+)/[^/]+\.so(\.|$)`)

// wanted of the packages are the programs that the environment offers, and libraries.
func (e environment) wanted(name string, d fs.DirEntry) bool {
	dir, program := path.Split(name)
	offered := slices.Contains(e.has, program) || program == "containerd-shim-runc-v2" && slices.Contains(e.has, "containerd")
	return (dir == "usr/bin/" || dir == "usr/sbin/") && offered && d.Type().IsRegular() || library.MatchString(name)
}

// fillForeign writes a ramdisk of the runtimes that the environment offers.
func (m *machine) fillForeign(ctx context.Context, cache string, e environment) error {
	if !slices.ContainsFunc(ociRuntimes, func(name string) bool { return slices.Contains(e.has, name) }) {
		return nil
	}
	root, err := fetch(ctx, cache, foreignPackages(m.kernel))
	if err != nil {
		return err
	}
	r := &cpio{}
	err = r.debian(root, func(name string, d fs.DirEntry) bool { return d.IsDir() || e.wanted(name, d) })
	m.foreign[e.mode] = r.bytes()
	return err
}
