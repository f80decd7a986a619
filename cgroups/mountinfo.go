// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/internal/parse"
)

// mount is one line of proc_pid_mountinfo(5) about a cgroup file system.
type mount struct {
	major, minor uint32
	root         string // which directory of the hierarchy is mounted, "/" for its top
	point        string // where
	v2           bool
	controllers  Controllers // those of v1 that are known; v2 tells them in a file
}

// parseMounts picks the cgroup mounts out of /proc/PID/mountinfo, in its order.
func parseMounts(b []byte) ([]mount, error) {
	var mounts []mount
	for line := range bytes.Lines(b) {
		// "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:1 - cgroup cgroup rw,cpu"
		left, right, found := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !found || len(l) < 5 || len(r) < 1 {
			return nil, fmt.Errorf("mountinfo line %q: too few fields", line)
		}
		if r[0] != "cgroup" && r[0] != "cgroup2" {
			continue
		}
		m := mount{root: parse.Unescape(l[3]), point: parse.Unescape(l[4]), v2: r[0] == "cgroup2"}
		major, minor, _ := strings.Cut(l[2], ":")
		a, err1 := strconv.ParseUint(major, 10, 32)
		b, err2 := strconv.ParseUint(minor, 10, 32)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("mountinfo line %q: %q is no device number", line, l[2])
		}
		m.major, m.minor = uint32(a), uint32(b)
		if !m.v2 {
			for o := range strings.SplitSeq(r[len(r)-1], ",") {
				if c, known := parseController(o); known {
					m.controllers |= ControllersOf(c)
				}
			}
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}
