// SPDX-License-Identifier: Apache-2.0

// Package linux reads what /proc says about processes and the machine, and has
// the system calls on namespaces.
//
// The parsers are pure and build everywhere. Nothing here keeps state or caches.
package linux
