// SPDX-License-Identifier: Apache-2.0

// Package bpf assembles small BPF programs and gives them to the kernel.
package bpf
