// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/caisson-run/caisson/namespaces"
)

// Config describes how sandboxes are connected on one machine.
type Config struct {
	// Scope tells what this agent makes from what others make: 1 to 16 lower case
	// letters and digits, the same each time the agent runs.
	Scope string

	// Machine is the network namespace that bridges, parents and the machine's
	// ends are in; nil is the caller's own. It is only used during the call.
	Machine *namespaces.Handle

	// Pins is the directory that namespaces are pinned in; empty is "/run/netns",
	// where ip-netns(8) sees them. It is made, and made a shared mount as that
	// does, if it is not yet.
	Pins string

	// State is the directory of the pools' files, and of notes on physical links
	// that were moved. It belongs on a file system that is empty after a reboot,
	// and is made if it is missing. Without it there are neither.
	State string

	// Pools are the subnets to give addresses of.
	Pools []PoolConfig

	// Firewall publishes ports and keeps sandboxes apart; nil: neither.
	Firewall Firewall

	// Warm is how many namespaces, each with a Veth, are kept ready for the
	// networks to come, at most 64. They are made in the background, like the last
	// network that was made: with its bridge, MTU and limits, which spares the next
	// one of this kind most of the work. Close ends them, and so does the end of the
	// process.
	Warm int
}

// A Firewall keeps the rules of sandboxes, in tables that are its own.
// [github.com/caisson-run/caisson/netns/nft] has one.
type Firewall interface {
	// Set makes these the rules of the owner, whatever they were, at once.
	Set(ctx context.Context, owner string, r Rules) error
	// Remove takes the owner's rules away; none is nil.
	Remove(ctx context.Context, owner string) error
	// Owners lists whom there are rules of.
	Owners(ctx context.Context) ([]string, error)
}

// Rules are what a [Firewall] knows of one sandbox.
type Rules struct {
	Addrs    []netip.Addr // the sandbox's own
	Isolated bool         // from others that are isolated
	Ports    []Port

	// Priorities are those that packets from some of the addresses get while the
	// machine forwards them: for IPv4 the kernel takes away what they had.
	Priorities map[netip.Addr]Priority
}

// Validate reports everything that is wrong with c, without looking at the
// machine. The error matches [ErrInvalid].
func (c Config) Validate() error {
	v := &validator{}
	good := len(c.Scope) >= 1 && len(c.Scope) <= 16
	for i := range len(c.Scope) {
		good = good && ('a' <= c.Scope[i] && c.Scope[i] <= 'z' || '0' <= c.Scope[i] && c.Scope[i] <= '9')
	}
	if !good {
		v.bad("scope", c.Scope, "not 1 to 16 lower case letters and digits")
	}
	if c.Warm < 0 || c.Warm > maxEach {
		v.bad("warm namespaces", "", "not 0 to 64")
	}
	if len(c.Pools) > 0 && c.State == "" {
		v.bad("state", "", "pools need a directory")
	}
	names := map[string]bool{}
	for i, p := range c.Pools {
		v.add(p.Validate())
		if names[p.Name] {
			v.bad("pool", p.Name, "named twice")
		}
		names[p.Name] = true
		for _, o := range c.Pools[:i] {
			if o.Subnet.Overlaps(p.Subnet) {
				v.bad("pool subnet", p.Subnet.String(), "overlaps with pool "+o.Name)
			}
		}
	}
	return errors.Join(v.errs...)
}

// Attached is one interface of a sandbox as it was made.
type Attached struct {
	Name    string         `json:"name"`              // inside
	Machine string         `json:"machine,omitempty"` // the other end of a Veth
	Addrs   []netip.Prefix `json:"addrs,omitempty"`
}

// OverlapError says that a pool's subnet is in use already. It matches
// [ErrInvalid].
type OverlapError struct {
	Pool   string
	Subnet netip.Prefix
	Route  netip.Prefix // the machine's
	Link   string       // over which it leads
}

// Error reads `pool "a": 10.0.0.0/16 overlaps with the route to 10.0.0.0/24 over eth0`.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("pool %q: %s overlaps with the route to %s over %s", e.Pool, e.Subnet, e.Route, e.Link)
}

// Is reports whether target is [ErrInvalid].
func (e *OverlapError) Is(target error) bool { return target == ErrInvalid }
