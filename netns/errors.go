// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"
	"strings"

	"github.com/caisson-run/caisson/namespaces"
)

// ErrNotSupported is matched by every error that says what was asked for does
// not exist here.
var ErrNotSupported = namespaces.ErrNotSupported

// ErrInvalid is matched by errors about a value that was refused before
// anything was touched.
var ErrInvalid = namespaces.ErrInvalid

// ErrInterrupted is matched by errors that say a list changed during each of
// several attempts to read it.
var ErrInterrupted = errors.New("the list changed while it was read")

// OpError says which operation in which namespace failed.
//
// Err matches [os.ErrNotExist] if the link does not exist, [os.ErrPermission]
// without CAP_NET_ADMIN over the namespace, [os.ErrClosed] after Close, or the
// context's error.
type OpError struct {
	Op   string        // "open", "list links", "look at", "set up", "set down", "count"
	Link string        // the link's name, if the operation has one
	NS   namespaces.ID // the network namespace
	Err  error
}

// Error reads "set up eth0 in net:[4026532201]: no such link".
func (e *OpError) Error() string {
	s := e.Op
	if e.Link != "" {
		s += " " + e.Link
	}
	return s + " in " + e.NS.String() + ": " + strings.TrimSpace(e.Err.Error())
}

// Unwrap gives the cause.
func (e *OpError) Unwrap() error { return e.Err }

// LinkError says with which of several links something failed.
type LinkError struct {
	Link string
	Err  error
}

// Error reads "eth0: file exists".
func (e *LinkError) Error() string { return e.Link + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *LinkError) Unwrap() error { return e.Err }

// noLink is ENODEV as a link's absence.
type noLink struct{}

func (noLink) Error() string   { return "no such link" }
func (noLink) Is(t error) bool { return t == os.ErrNotExist }
