// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Uplink needs Linux.
package main

import "os"

func main() {
	_, _ = os.Stderr.WriteString("uplink: only Linux has network namespaces\n")
	os.Exit(1)
}
