// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

import (
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
)

var errPidfd error = &feature.UnsupportedError{Feature: "pidfd", Reason: "only Linux has it"}

// PidfdOpen returns ErrNotSupported.
func PidfdOpen(int) (*FD, error) { return nil, errPidfd }

// PidfdSignal returns ErrNotSupported.
func PidfdSignal(int, syscall.Signal) error { return errPidfd }

// PidfdExit returns ErrNotSupported.
func PidfdExit(int, time.Duration) (syscall.WaitStatus, error) { return 0, errPidfd }

// PidfdInode returns 0.
func PidfdInode(int) uint64 { return 0 }
