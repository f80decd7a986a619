// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"regexp"
	"slices"
)

// foreignTests are tests of other people's containers, and with their runtimes.
var foreignTests = []string{"test/e2e", "isolation/ociruntime"}

// runtimes are other people's container runtimes, as classes of what an
// environment offers.
var runtimes = []string{"dockerd", "docker", "containerd", "runc", "crun"}

func (e environment) foreign() bool { return slices.Contains(e.has, runtimes[0]) }

func (b testBinary) needForeign() bool { return slices.Contains(foreignTests, b.pkg) }

// foreignPackages are the runtimes and what they need.
func foreignPackages(k kernel) packages {
	return packages{"foreign-", k.suites, k.arch, func(ctx context.Context, a apt) error {
		return withDependencies(ctx, a, "docker.io", "crun")
	}}
}

// wanted of the packages are these programs and the libraries.
var wanted = regexp.MustCompile(`^usr/s?bin/(dockerd|docker|containerd|containerd-shim-runc-v2|runc|crun)$|\.so(\.|$)`)

// fillForeign writes a ramdisk of the runtimes, for a root file system that has
// the loader of programs: it is the environment's of systemd.
func (m *machine) fillForeign(ctx context.Context, cache string) error {
	root, err := fetch(ctx, cache, foreignPackages(m.kernel))
	if err != nil {
		return err
	}
	r := &cpio{}
	err = r.debian(root, func(name string, d fs.DirEntry) bool { return d.IsDir() || wanted.MatchString(name) })
	m.foreign = r.bytes()
	return err
}
