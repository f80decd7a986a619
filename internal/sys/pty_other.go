// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sys

import (
	"os"

	"github.com/caisson-run/caisson/internal/feature"
)

var errPTY = &feature.UnsupportedError{Feature: "pseudoterminal", Reason: "only on Linux"}

// OpenPTY is not supported here.
func OpenPTY() (pty, tty *os.File, err error) { return nil, nil, errPTY }

// ResizePTY is not supported here.
func ResizePTY(*os.File, uint16, uint16) error { return errPTY }

// TerminalSize is not supported here.
func TerminalSize(*os.File) (rows, columns uint16, err error) { return 0, 0, errPTY }

// RawTerminal is not supported here.
func RawTerminal(*os.File) (restore func() error, err error) { return nil, errPTY }

// HungUp is false here.
func HungUp(error) bool { return false }
