// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package testutil

import (
	"errors"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func unmet(r Requirement) error {
	if r == Unprivileged && os.Geteuid() != 0 {
		return nil
	}
	return errors.New("only Linux has it")
}

// CheckLeaks fails the test if goroutines outlive it; elsewhere than on Linux
// that is all it looks at.
func CheckLeaks(tb testing.TB) {
	tb.Helper()
	opt := goleak.IgnoreCurrent()
	tb.Cleanup(func() {
		if err := goleak.Find(opt); err != nil {
			tb.Errorf("leaked: %v", err)
		}
	})
}
