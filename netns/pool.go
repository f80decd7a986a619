// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/caisson-run/caisson/namespaces"
)

// ErrExhausted is matched by errors that say a pool has no free address.
var ErrExhausted = errors.New("no free address")

// PoolConfig describes a subnet to give addresses of.
type PoolConfig struct {
	Name   string       `json:"name"`
	Subnet netip.Prefix `json:"subnet"`

	// Gateway is the machine's own address in the subnet, given to nobody; none
	// if the subnet has no router.
	Gateway netip.Addr `json:"gateway,omitzero"`

	// Reserved are parts of the subnet that are given to nobody.
	Reserved []netip.Prefix `json:"reserved,omitempty"`

	// Link is the machine's link with the subnet, a bridge for example. A route to
	// any part of the subnet over another link is refused when the pool is
	// opened, as it would lead traffic of others to sandboxes.
	Link string `json:"link,omitzero"`

	// Quarantine is how long an address is given to nobody after it was freed, as
	// others may still think it is the old owner's; 0 is [DefaultQuarantine]. An
	// address that is needed sooner because no other is free stays where it is.
	Quarantine time.Duration `json:"quarantine,omitzero"`
}

// DefaultQuarantine is time for what others know of an old owner (neighbor
// entries, connections under way) to be noticed as stale.
const DefaultQuarantine = 10 * time.Second

// Validate reports everything that is wrong with c. The error matches
// [ErrInvalid].
func (c PoolConfig) Validate() error {
	v := &validator{}
	v.add(checkPoolName(c.Name))
	s := c.Subnet
	switch {
	case !s.IsValid() || s != s.Masked() || s.Addr().Is4In6():
		v.bad("pool subnet", s.String(), "not a network like 10.1.0.0/16")
		return errors.Join(v.errs...)
	case s.Addr().IsMulticast() || s.Addr().IsLoopback() || s.Bits() == 0:
		v.bad("pool subnet", s.String(), "no addresses of machines")
	case s.Bits() > s.Addr().BitLen()-2 && c.Gateway.IsValid():
		v.bad("pool subnet", s.String(), "too small for a gateway")
	}
	if c.Gateway.IsValid() && !s.Contains(c.Gateway) {
		v.bad("pool gateway", c.Gateway.String(), "not in "+s.String())
	}
	for _, r := range c.Reserved {
		if !r.IsValid() || !s.Overlaps(r) {
			v.bad("pool reserved", r.String(), "not in "+s.String())
		}
	}
	if c.Link != "" {
		v.add(checkName(c.Link))
	}
	if c.Quarantine < 0 {
		v.bad("pool quarantine", c.Quarantine.String(), "negative")
	}
	return errors.Join(v.errs...)
}

// usable reports whether addr may be given to somebody: not the network's own,
// not the broadcast address, not the gateway, not reserved.
func (c PoolConfig) usable(addr netip.Addr) bool {
	if !c.Subnet.Contains(addr) || addr == c.Gateway {
		return false
	}
	if host := addr.BitLen() - c.Subnet.Bits(); host > 1 {
		if addr == c.Subnet.Addr() || addr.Is4() && addr == lastOf(c.Subnet) {
			return false
		}
	}
	for _, r := range c.Reserved {
		if r.Contains(addr) {
			return false
		}
	}
	return true
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Lease is one address that is in use.
type Lease struct {
	Addr  netip.Addr
	Owner string
	Index int // which of the owner's addresses of this pool: from 0
}

// ExhaustedError says that a pool has no free address. It matches
// [ErrExhausted].
type ExhaustedError struct {
	Pool        string
	Subnet      netip.Prefix
	Leased      int // in use
	Quarantined int // freed, and to be had again soon
}

// Error reads `pool "a": no free address in 10.0.0.0/29: 5 in use, 1 freed a moment ago`.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("pool %q: %v in %s: %d in use, %d freed a moment ago", e.Pool, ErrExhausted, e.Subnet, e.Leased, e.Quarantined)
}

// Is reports whether target is [ErrExhausted].
func (e *ExhaustedError) Is(target error) bool { return target == ErrExhausted }

// entry is the name of a file in a pool's directory, which says everything: an
// empty file is whole or not there, so no crash leaves half a record.
//
//	10.0.0.7@web-1@0     the first address of web-1
//	10.0.0.7@@123456     freed 123.456 seconds after boot
type entry struct {
	Lease
	freed time.Duration // since boot; the Owner is empty
}

func (e entry) name() string {
	n := int64(e.Index)
	if e.Owner == "" {
		n = e.freed.Milliseconds()
	}
	return e.Addr.String() + "@" + e.Owner + "@" + strconv.FormatInt(n, 10)
}

// parseEntry reads what name writes, and nothing else.
func parseEntry(name string) (entry, error) {
	bad := func(reason string) (entry, error) {
		return entry{}, &namespaces.InvalidError{Field: "lease", Value: clip(name), Reason: reason}
	}
	f := strings.Split(name, "@")
	if len(f) != 3 {
		return bad("not ADDRESS@OWNER@NUMBER")
	}
	addr, err := netip.ParseAddr(f[0])
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return bad("no address")
	}
	n, err := strconv.ParseInt(f[2], 10, 52)
	if err != nil || n < 0 {
		return bad("no number")
	}
	e := entry{Lease: Lease{Addr: addr, Owner: f[1]}}
	if e.Owner == "" {
		e.freed = time.Duration(n) * time.Millisecond
	} else {
		if err := checkOwner(e.Owner); err != nil || n > maxEach {
			return bad("no owner")
		}
		e.Index = int(n)
	}
	if e.name() != name {
		return bad("not in its usual form")
	}
	return e, nil
}
