// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxElement = 255  // NAME_MAX
	maxPath    = 3840 // leaves room below PATH_MAX for the mount point and a file's name
)

// kernelPrefixes begin the names of the kernel's own files in a group, on
// either version: a group of such a name could collide with a file.
var kernelPrefixes = [...]string{
	"blkio.", "cgroup.", "cpu.", "cpuacct.", "cpuset.", "debug.", "devices.", "dmem.", "freezer.", "hugetlb.",
	"io.", "irq.", "memory.", "misc.", "net_cls.", "net_prio.", "perf_event.", "pids.", "rdma.",
}

// kernelNames are the kernel's files without a prefix, all of v1.
var kernelNames = [...]string{"notify_on_release", "release_agent", "tasks"}

// checkPath accepts the path of a group that may exist.
func checkPath(path string) error {
	if len(path) > maxPath {
		return &InvalidError{Field: "path", Value: path[:64] + "...", Reason: "longer than " + strconv.Itoa(maxPath) + " bytes"}
	}
	invalid := func(reason string) error { return &InvalidError{Field: "path", Value: path, Reason: reason} }
	if path == "" {
		return invalid("empty")
	}
	if path[0] == '/' {
		return invalid("not relative to the root")
	}
	for element := range strings.SplitSeq(path, "/") {
		switch {
		case element == "":
			return invalid("an element is empty")
		case element == "." || element == "..":
			return invalid("an element is " + strconv.Quote(element))
		case len(element) > maxElement:
			return invalid("an element is longer than " + strconv.Itoa(maxElement) + " bytes")
		case !utf8.ValidString(element):
			return invalid("not UTF-8")
		case strings.ContainsFunc(element, func(r rune) bool { return !unicode.IsPrint(r) }):
			return invalid("a character cannot be printed")
		}
	}
	return nil
}

// checkNewPath accepts the path of a group that is to be made.
func checkNewPath(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	invalid := func(reason string) error { return &InvalidError{Field: "path", Value: path, Reason: reason} }
	for element := range strings.SplitSeq(path, "/") {
		for _, p := range kernelPrefixes {
			if strings.HasPrefix(element, p) {
				return invalid("an element begins with " + strconv.Quote(p) + " like the kernel's files")
			}
		}
		for _, n := range kernelNames {
			if element == n {
				return invalid(strconv.Quote(n) + " is the name of a kernel file")
			}
		}
		// /proc/PID/cgroup marks removed groups with this suffix.
		if strings.HasSuffix(element, " (deleted)") {
			return invalid("an element ends like a removed group's in /proc")
		}
	}
	return nil
}
