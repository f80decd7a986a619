// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package linux

import (
	"io/fs"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
)

func onlyLinux(what string) error {
	return &feature.UnsupportedError{Feature: what, Reason: "only Linux has it"}
}

// BootID is not supported here.
func BootID() (string, error) { return "", onlyLinux("boot_id") }

// ReadStat is not supported here.
func ReadStat(int) (Stat, error) { return Stat{}, onlyLinux("/proc/PID/stat") }

// StartTime is not supported here.
func StartTime(int) (uint64, error) { return 0, onlyLinux("/proc/PID/stat") }

// Uptime is not supported here.
func Uptime() (time.Duration, error) { return 0, onlyLinux("CLOCK_BOOTTIME") }

// PIDOf is not supported here.
func PIDOf(int) (int, error) { return 0, onlyLinux("pidfd") }

// Exists is not supported here.
func Exists(int) error { return onlyLinux("pidfd") }

// ReadCPUTimes is not supported here.
func ReadCPUTimes() (CPUTimes, error) { return CPUTimes{}, onlyLinux("/proc/stat") }

// ReadMemInfo is not supported here.
func ReadMemInfo() (MemInfo, error) { return MemInfo{}, onlyLinux("/proc/meminfo") }

// ModeInRoot is not supported here.
func ModeInRoot(string, string) (fs.FileMode, error) { return 0, onlyLinux("openat2") }
