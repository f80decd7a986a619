// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package netns

import (
	"context"
	"net/netip"

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

// TCP is not supported here.
func (h *Handle) TCP(*TCPStats) error { return onlyLinux() }

// Queue is not supported here.
func (h *Handle) Queue(string, *Queue) error { return onlyLinux() }

// DefaultPins is where ip-netns(8) keeps network namespaces.
const DefaultPins = "/run/netns"

// Pins is a directory of pinned network namespaces. Here there are none.
type Pins struct{}

// OpenPins is not supported here.
func OpenPins(string) (Pins, error) { return Pins{}, onlyLinux() }

// Path is empty here.
func (Pins) Path() string { return "" }

// Create is not supported here.
func (Pins) Create(string) (*namespaces.Handle, error) { return nil, onlyLinux() }

// Pin is not supported here.
func (Pins) Pin(string, *namespaces.Handle) error { return onlyLinux() }

// Open is not supported here.
func (Pins) Open(string) (*namespaces.Handle, error) { return nil, onlyLinux() }

// Remove is not supported here.
func (Pins) Remove(string) error { return onlyLinux() }

// Names is not supported here.
func (Pins) Names(string) ([]string, error) { return nil, onlyLinux() }

// Discard is not supported here.
func (Pins) Discard() error { return onlyLinux() }

// Pool gives out the addresses of one subnet. Here there are none.
type Pool struct{ cfg PoolConfig }

// OpenPool is not supported here.
func OpenPool(string, PoolConfig) (*Pool, error) { return nil, onlyLinux() }

// Config is what the pool was opened with.
func (p *Pool) Config() PoolConfig { return p.cfg }

// Allocate is not supported here.
func (p *Pool) Allocate(context.Context, string, int) (netip.Prefix, error) {
	return netip.Prefix{}, onlyLinux()
}

// Release is not supported here.
func (p *Pool) Release(context.Context, string) error { return onlyLinux() }

// Leases is not supported here.
func (p *Pool) Leases(context.Context) ([]Lease, error) { return nil, onlyLinux() }

// Network makes and removes the networks of sandboxes. Here there are none.
type Network struct{ scope string }

// OpenNetwork is not supported here.
func OpenNetwork(context.Context, Config) (*Network, error) { return nil, onlyLinux() }

// Close does nothing.
func (n *Network) Close() error { return nil }

// Pins is the directory of the namespaces.
func (n *Network) Pins() Pins { return Pins{} }

// Pool is nil here.
func (n *Network) Pool(string) *Pool { return nil }

// Machine is nil here.
func (n *Network) Machine() *Handle { return nil }

// Create is not supported here.
func (n *Network) Create(context.Context, string, Spec) (*Attachment, error) {
	return nil, onlyLinux()
}

// Open is not supported here.
func (n *Network) Open(context.Context, string, Spec) (*Attachment, error) { return nil, onlyLinux() }

// Destroy is not supported here.
func (n *Network) Destroy(context.Context, string) error { return onlyLinux() }

// Owners is not supported here.
func (n *Network) Owners(context.Context) ([]string, error) { return nil, onlyLinux() }

// Sweep is not supported here.
func (n *Network) Sweep(context.Context, func(string) bool) ([]string, error) {
	return nil, onlyLinux()
}

// Attachment is the network that a sandbox has. Here there are none.
type Attachment struct{}

// Namespace is nil here.
func (a *Attachment) Namespace() *namespaces.Handle { return nil }

// Inside is nil here.
func (a *Attachment) Inside() *Handle { return nil }

// Path is empty here.
func (a *Attachment) Path() string { return "" }

// Interfaces is empty here.
func (a *Attachment) Interfaces() []Attached { return nil }

// Addrs is empty here.
func (a *Attachment) Addrs() []netip.Prefix { return nil }

// Close does nothing.
func (a *Attachment) Close() error { return nil }

// SetBandwidth is not supported here.
func (a *Attachment) SetBandwidth(context.Context, string, Bandwidth) error { return onlyLinux() }

// Bandwidth is not supported here.
func (a *Attachment) Bandwidth(context.Context, string) (Bandwidth, error) {
	return Bandwidth{}, onlyLinux()
}

// Stat is not supported here.
func (a *Attachment) Stat(string, *InterfaceStats) error { return onlyLinux() }

// Shaper shares a link between classes. Here there are none.
type Shaper struct{}

// OpenShaper is not supported here.
func OpenShaper(context.Context, *Handle, ShaperConfig) (*Shaper, error) { return nil, onlyLinux() }

// Set is not supported here.
func (s *Shaper) Set(context.Context, Class) error { return onlyLinux() }

// Remove is not supported here.
func (s *Shaper) Remove(context.Context, uint16) error { return onlyLinux() }

// Priority is unset here.
func (*Shaper) Priority(uint16) Priority { return Priority{} }

// Stat is not supported here.
func (s *Shaper) Stat(uint16, *Queue) error { return onlyLinux() }

// Delete is not supported here.
func (s *Shaper) Delete(context.Context) error { return onlyLinux() }
