// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caisson-run/caisson/isolation"
)

// rootFlags are the flags of a root file system.
func rootFlags(fs *flag.FlagSet, root *isolation.Root) {
	fs.Func("rootfs", "`DIR` that is / inside, unchanged by what is written there; may be repeated, the topmost first", func(s string) error {
		dir, err := filepath.Abs(s)
		root.Layers = append(root.Layers, dir)
		return err
	})
	fs.Func("rootfs-upper", "`DIR` to keep in what is written to --rootfs; memory by default", func(s string) (err error) {
		root.Upper, err = filepath.Abs(s)
		return err
	})
	fs.BoolVar(&root.ReadOnly, "read-only", false, "nothing can be written to / inside")
	fs.Func("mount", "`SOURCE:TARGET[:ro]`, a file or directory to have inside, or tmpfs:TARGET; may be repeated", func(s string) error {
		v, err := parseVolume(s)
		root.Volumes = append(root.Volumes, v)
		return err
	})
}

// parseVolume reads SOURCE:TARGET[:ro].
func parseVolume(s string) (v isolation.Volume, err error) {
	source, rest, ok := strings.Cut(s, ":")
	if !ok || source == "" {
		return v, fmt.Errorf("%q is not SOURCE:TARGET", s)
	}
	target, mode, given := strings.Cut(rest, ":")
	if given && mode != "ro" {
		return v, fmt.Errorf("%q: the only mode is ro", s)
	}
	v = isolation.Volume{Target: target, ReadOnly: given}
	if source != "tmpfs" {
		v.Source, err = filepath.Abs(source)
	}
	return v, err
}
