// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package nft

import (
	"context"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

func onlyLinux() error {
	return &namespaces.UnsupportedError{Feature: "nftables", Reason: "only Linux has it"}
}

// Firewall is a table of its own. Here there are none.
type Firewall struct{}

// Open is not supported here.
func Open(context.Context, Config) (*Firewall, error) { return nil, onlyLinux() }

// Close does nothing.
func (*Firewall) Close() error { return nil }

// Delete is not supported here.
func (*Firewall) Delete(context.Context) error { return onlyLinux() }

// Set is not supported here.
func (*Firewall) Set(context.Context, string, netns.Rules) error { return onlyLinux() }

// Remove is not supported here.
func (*Firewall) Remove(context.Context, string) error { return onlyLinux() }

// Owners is not supported here.
func (*Firewall) Owners(context.Context) ([]string, error) { return nil, onlyLinux() }
