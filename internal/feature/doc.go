// SPDX-License-Identifier: Apache-2.0

// Package feature is the one vocabulary for "this kernel, or this machine,
// cannot do that", and for "that value makes no sense".
//
// Every public package re-exports [ErrNotSupported], [ErrInvalid] and their
// types, so a caller needs one errors.Is whichever package answered.
package feature
