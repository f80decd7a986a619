// SPDX-License-Identifier: Apache-2.0

// Package sys is the only door to raw system calls outside the other packages
// under internal: owned descriptors, and the few calls the standard library
// lacks.
package sys
