// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package rtnl

import "github.com/caisson-run/caisson/internal/feature"

var errOther = &feature.UnsupportedError{Feature: "netlink", Reason: "only Linux has it"}

// Socket is a netlink socket. Here there are none.
type Socket struct{}

// Open is not supported here.
func Open() (*Socket, error) { return nil, errOther }

// Close does nothing.
func (*Socket) Close() error { return nil }

// Qdisc is not supported here.
func (*Socket) Qdisc(int, uint32) (Counters, error) { return Counters{}, errOther }

// RootQdisc is not supported here.
func (*Socket) RootQdisc(int) (Counters, error) { return Counters{}, errOther }

// Class is not supported here.
func (*Socket) Class(int, uint32) (Counters, error) { return Counters{}, errOther }

// Link is what SetLink makes of a link.
type Link struct {
	Name, Alias string
	MAC         []byte
	MTU, Master int
	Up          bool
}

// SetLink is not supported here.
func (*Socket) SetLink(int, Link) error { return errOther }

// Index is not supported here.
func (*Socket) Index(string) (int, int, error) { return 0, 0, errOther }
