// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package namespaces

func onlyLinux() error {
	return &UnsupportedError{Feature: "namespaces", Reason: "only Linux has them"}
}

// Handle holds one namespace. Here there are none.
type Handle struct{ id ID }

// OpenPID is not supported here.
func OpenPID(int, Kind) (*Handle, error) { return nil, onlyLinux() }

// OpenPIDFD is not supported here.
func OpenPIDFD(int, Kind) (*Handle, error) { return nil, onlyLinux() }

// OpenPath is not supported here.
func OpenPath(string) (*Handle, error) { return nil, onlyLinux() }

// Current is not supported here.
func Current(Kind) (*Handle, error) { return nil, onlyLinux() }

// IDOf is not supported here.
func IDOf(int, Kind) (ID, error) { return ID{}, onlyLinux() }

// Do is not supported here: fn is not called.
func Do(func() error, ...*Handle) error { return onlyLinux() }

// Create is not supported here.
func Create(Kind) (*Handle, error) { return nil, onlyLinux() }

// Clone is not supported here.
func (h *Handle) Clone() (*Handle, error) { return nil, onlyLinux() }

// Pin is not supported here.
func (h *Handle) Pin(string) error { return onlyLinux() }

// Unpin is not supported here.
func Unpin(string) error { return onlyLinux() }

// ID identifies the namespace.
func (h *Handle) ID() ID { return h.id }

// Kind is what the namespace isolates.
func (h *Handle) Kind() Kind { return h.id.Kind }

// String is the ID's.
func (h *Handle) String() string { return h.id.String() }

// FD is not supported here.
func (h *Handle) FD() int { return -1 }

// Close does nothing.
func (h *Handle) Close() error { return nil }

// UserNS is not supported here.
func (h *Handle) UserNS() (*Handle, error) { return nil, onlyLinux() }

// Parent is not supported here.
func (h *Handle) Parent() (*Handle, error) { return nil, onlyLinux() }

// Holders is not supported here.
func Holders(ID) ([]Holder, error) { return nil, onlyLinux() }
