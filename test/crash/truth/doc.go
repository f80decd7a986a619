// SPDX-License-Identifier: Apache-2.0

// Package truth says what the kernel and the disk have of a host's sandboxes. It
// is the judge of the library's word, and imports nothing of it.
package truth
