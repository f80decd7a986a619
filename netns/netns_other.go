// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package netns

import (
	"context"

	"github.com/caisson-run/caisson/namespaces"
)

func onlyLinux() error {
	return &namespaces.UnsupportedError{Feature: "network namespaces", Reason: "only Linux has them"}
}

// Handle is a way into one network namespace. Here there are none.
type Handle struct{ id namespaces.ID }

// Open is not supported here.
func Open(*namespaces.Handle) (*Handle, error) { return nil, onlyLinux() }

// OpenPID is not supported here.
func OpenPID(int) (*Handle, error) { return nil, onlyLinux() }

// ID identifies the namespace.
func (h *Handle) ID() namespaces.ID { return h.id }

// Close does nothing.
func (h *Handle) Close() error { return nil }

// Links is not supported here.
func (h *Handle) Links(context.Context) ([]Link, error) { return nil, onlyLinux() }

// Link is not supported here.
func (h *Handle) Link(context.Context, string) (Link, error) { return Link{}, onlyLinux() }

// SetUp is not supported here.
func (h *Handle) SetUp(context.Context, string) error { return onlyLinux() }

// SetDown is not supported here.
func (h *Handle) SetDown(context.Context, string) error { return onlyLinux() }

// Stats is not supported here.
func (h *Handle) Stats(string, *LinkStats) error { return onlyLinux() }
