// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/internal/sys"
)

// Bounds of Linux's dev_t.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// A Device is the number of a block device, a whole disk and not a partition.
type Device struct{ Major, Minor uint32 }

// ParseDevice reads "8:0", or looks up the node of a whole disk, "/dev/vda", in
// this process's file system.
//
// It returns an [InvalidError] if s is something else or a partition, which the
// kernel does not limit, and an error matching [os.ErrNotExist] if there is no
// such path.
func ParseDevice(s string) (Device, error) {
	var d Device
	if !strings.HasPrefix(s, "/") {
		return d, d.UnmarshalText([]byte(s))
	}
	major, minor, ok, err := sys.BlockDevice(s)
	if err != nil {
		return Device{}, fmt.Errorf("device: %w", err)
	}
	if !ok {
		return Device{}, &InvalidError{Field: "device", Value: s, Reason: "not a block device"}
	}
	d = Device{major, minor}
	if _, err := os.Stat("/sys/dev/block/" + d.String() + "/partition"); err == nil {
		return Device{}, &InvalidError{Field: "device", Value: s, Reason: "a partition; limits are set on the whole disk"}
	}
	return d, nil
}

// IsZero reports whether the device is 0:0, which is none.
func (d Device) IsZero() bool { return d == Device{} }

// String is "8:0".
func (d Device) String() string {
	return strconv.FormatUint(uint64(d.Major), 10) + ":" + strconv.FormatUint(uint64(d.Minor), 10)
}

// MarshalText is [Device.String].
func (d Device) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [Device.String] writes.
func (d *Device) UnmarshalText(text []byte) error {
	major, minor, ok := strings.Cut(string(text), ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || err1 != nil || err2 != nil || a > maxMajor || b > maxMinor {
		return &InvalidError{Field: "device", Value: string(text), Reason: "not major:minor such as 8:0"}
	}
	*d = Device{uint32(a), uint32(b)}
	return nil
}
