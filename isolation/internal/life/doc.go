// SPDX-License-Identifier: Apache-2.0

// Package life is what the drivers over OCI have in common, whoever makes the
// container: what is known and written down of it from the making of its group to the
// end of its first process, the calls that its group or that process answer, and the
// groups that others leave in hierarchies which only they use.
package life
