// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"os"
	"strconv"
)

// Soak is how often a test of endurance repeats what it does: CAISSON_SOAK
// times, or as few as given.
func Soak(few int) int {
	if n, err := strconv.Atoi(os.Getenv("CAISSON_SOAK")); err == nil && n > 0 {
		return n
	}
	return few
}
