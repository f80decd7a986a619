// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"os"
	"path"
	"strings"
)

// swapFree is how many bytes of the group's memory may still go to swap: what
// the machine has left and, on v2, what the group and those above it may use.
// With a swappiness of 0 the kernel swaps nothing for the sake of a group's
// limit.
func (t *groupTree) swapFree(version int) uint64 {
	free := t.c.root.swapFree()
	n := t.in(ControllerMemory)
	if free == 0 || n == nil {
		return 0
	}
	if version == 1 {
		if text, err := t.read(ControllerMemory, "memory.swappiness"); err == nil && text == "0" {
			return 0
		}
		return free
	}
	if b, err := os.ReadFile("/proc/sys/vm/swappiness"); t.c.root.fake == nil && err == nil && strings.TrimSpace(string(b)) == "0" {
		return 0
	}
	for group := t.c.path; group != "." && group != ""; group = path.Dir(group) {
		limit, err := readAmount(n, path.Join(group, "memory.swap.max"))
		if err != nil || limit == noLimit {
			continue // not under the controller up there, or no limit
		}
		if used, err := readAmount(n, path.Join(group, "memory.swap.current")); err == nil {
			free = min(free, limit-min(used, limit))
		}
	}
	return free
}

// swapFree is the machine's free swap in bytes.
func (r *Root) swapFree() uint64 {
	if r.fake != nil {
		return r.fake.SwapFree()
	}
	return machineSwap()
}

// readAmount reads a file below the top of n's tree.
func readAmount(n *node, file string) (uint64, error) {
	var buf [32]byte
	b, err := n.in.dir.ReadFile(file, buf[:])
	if err != nil {
		return 0, err
	}
	return parseAmount(string(b))
}

// machineSwap is what the kernel says of it.
func machineSwap() uint64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	rest, _ := lineOf(string(b), "SwapFree:")
	kib, err := parseAmount(strings.TrimSuffix(rest, " kB"))
	if err != nil {
		return 0
	}
	return kib << 10
}
