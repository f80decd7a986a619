// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

const (
	trustedLabels = "trusted.caisson." // only CAP_SYS_ADMIN sets and sees them
	userLabels    = "user.caisson."    // whoever may write to the directory
	maxLabelKey   = 200                // an attribute's name has 255 bytes, prefix included
	maxLabelValue = 4096
)

// SetLabel keeps a value under a key on the group itself, as an extended
// attribute of its directory, for as long as the group lives: who lost all else
// can still find what is his. Labels are not secret.
//
// With CAP_SYS_ADMIN these are trusted.* attributes, which the workload cannot
// forge even in a tree that was delegated to it; otherwise user.* (Linux 5.7,
// v2 only). A key has 1 to 200 printable characters, a value up to 4096 bytes.
func (c *Cgroup) SetLabel(key, value string) error {
	if reason := badLabel(key, value); reason != "" {
		return &InvalidError{Field: "label", Value: key, Reason: reason}
	}
	n := c.main()
	err := n.dir.SetXattr(trustedLabels+key, value)
	if isForbidden(err) {
		err = n.dir.SetXattr(userLabels+key, value)
	}
	if errors.Is(err, syscall.EOPNOTSUPP) {
		err = &UnsupportedError{Feature: "labels", Reason: "without CAP_SYS_ADMIN only groups of v2 have them", Since: "Linux 5.7", Err: err}
	}
	return n.failed(err)
}

// Labels reads what SetLabel has set on the group, with the same privileges:
// with CAP_SYS_ADMIN only what somebody with CAP_SYS_ADMIN has set.
func (c *Cgroup) Labels() (map[string]string, error) {
	n := c.main()
	prefix, err := n.labelPrefix()
	if err != nil {
		return nil, n.failed(err)
	}
	labels, err := n.dir.Xattrs(prefix)
	if err == nil && n.gone() { // a removed directory still answers
		err = &goneError{&FileError{Op: "listxattr", Path: n.dir.Path(), Err: syscall.ENOENT}}
	}
	if err != nil {
		return nil, n.failed(err)
	}
	return labels, nil
}

// labelPrefix asks the kernel whether trusted.* attributes are allowed, by
// removing one that nobody has.
func (n *node) labelPrefix() (string, error) {
	switch err := n.dir.RemoveXattr(trustedLabels + "\x7f"); {
	case err == nil, errors.Is(err, syscall.ENODATA):
		return trustedLabels, nil
	case isForbidden(err):
		return userLabels, nil
	default:
		return "", err
	}
}

func isForbidden(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES)
}

func badLabel(key, value string) string {
	switch {
	case key == "":
		return "empty key"
	case len(key) > maxLabelKey:
		return "the key is longer than " + strconv.Itoa(maxLabelKey) + " bytes"
	case !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "a character of the key cannot be printed"
	case len(value) > maxLabelValue:
		return "the value is longer than " + strconv.Itoa(maxLabelValue) + " bytes"
	}
	return ""
}
