// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// systemdOptions are for systemd as the first process, in the ramdisk itself. It
// keeps its own environment from services. dockerd wants a program that loads
// profiles where the kernel has AppArmor.
func systemdOptions(mode, env string) string {
	unified := "0"
	if mode == "v2" {
		unified = "1"
	}
	options := " apparmor=0 systemd.unit=caisson.service systemd.show_status=0" +
		" systemd.unified_cgroup_hierarchy=" + unified
	for _, v := range strings.Fields(env) {
		options += " systemd.setenv=" + v
	}
	return options
}

// unneeded is most of what Debian's systemd brings along.
var unneeded = regexp.MustCompile(`^(boot|usr/share/(doc|man|locale|perl|perl5|zoneinfo|i18n|info|common-licenses|bash-completion|polkit-1|mime)|` +
	`usr/lib/x86_64-linux-gnu/(perl|perl-base|gconv|libperl\.so.*|libicu.*)|usr/bin/perl.*|usr/lib/(udev/hwdb\.d|usrmerge)|var/lib/dpkg)(/|$)`)

// merged are directories of / that are those of /usr: Debian's packages still
// have files in both.
var merged = []string{"bin", "lib", "lib64", "sbin"}

// fillSystemd writes a root file system whose init is systemd, and a service
// that runs the tests.
func (m *machine) fillSystemd(ctx context.Context, cache string, r *cpio) error {
	root, err := fetch(ctx, cache, systemdPackages(m.kernel))
	if err != nil {
		return err
	}
	r.dir("usr")
	for _, name := range merged {
		r.dir("usr/" + name)
		r.link(name, "usr/"+name)
	}
	r.link("usr/bin/sh", "busybox")
	if err := r.debian(root, func(name string, _ fs.DirEntry) bool { return !unneeded.MatchString(name) }); err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{"etc/passwd", "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\nmessagebus:x:100:100::/:/bin/false\n"},
		{"etc/group", "root:x:0:\ntty:x:5:\nuser:x:1000:\nmessagebus:x:100:\n"},
		{"etc/machine-id", "00000000000000000000000000caa550\n"},
		{"etc/hostname", "caisson\n"},
		{"etc/systemd/system/caisson.service", "[Unit]\nWants=dbus.socket\nAfter=dbus.socket\n" +
			"[Service]\nType=oneshot\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\nExecStart=/init systemd\n"},
	} {
		r.file(f.name, []byte(f.text))
	}
	return nil
}

// debian writes what of unpacked packages keep wants.
func (c *cpio) debian(root string, keep func(name string, d fs.DirEntry) bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, top := range merged {
			if name == top || strings.HasPrefix(name, top+"/") {
				name = "usr/" + name
			}
		}
		switch {
		case !keep(name, d):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.IsDir():
			c.dir(name)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			c.link(name, target)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			c.file(name, data)
		}
		return nil
	})
}
