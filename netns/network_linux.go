// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// Network makes and removes the networks of sandboxes on one machine. It is safe
// for concurrent use; calls for one owner happen one after the other.
type Network struct {
	scope    string
	machine  *Handle
	ns       *namespaces.Handle // the machine's
	pins     Pins
	pools    map[string]*Pool
	firewall Firewall
	warm     *warmPool
	linger   time.Duration
	moved    string   // directory of the notes on moved links; empty: none
	steadied sync.Map // by index, the bridges that were given their own address

	mu    sync.Mutex
	turns map[string]*turn
}

// turn makes the calls for one owner wait for each other.
type turn struct {
	token chan struct{}
	users int
}

// OpenNetwork opens the network of c. Errors: [ErrInvalid]; [*OverlapError] if a
// route of the machine leads to a pool's subnet; [os.ErrPermission] without
// CAP_SYS_ADMIN and CAP_NET_ADMIN.
func OpenNetwork(ctx context.Context, c Config) (n *Network, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n = &Network{scope: c.Scope, pools: map[string]*Pool{}, firewall: c.Firewall, turns: map[string]*turn{}, linger: defaultLinger}
	defer func() {
		if err != nil {
			n, err = nil, errors.Join(err, n.Close())
		}
	}()
	if c.Machine != nil {
		n.ns, err = c.Machine.Clone()
	} else {
		n.ns, err = namespaces.Current(namespaces.Network)
	}
	if err != nil {
		return n, err
	}
	if n.machine, err = Open(n.ns); err != nil {
		return n, err
	}
	if n.pins, err = OpenPins(cmp.Or(c.Pins, DefaultPins)); err != nil {
		return n, err
	}
	if c.State != "" {
		n.moved = filepath.Join(c.State, "moved")
	}
	for _, pc := range c.Pools {
		if err := n.checkOverlap(ctx, pc); err != nil {
			return n, err
		}
		if n.pools[pc.Name], err = OpenPool(filepath.Join(c.State, "pools"), pc); err != nil {
			return n, err
		}
	}
	if c.Warm > 0 {
		n.warm = newWarmPool(n.machine, c.Warm)
	}
	return n, nil
}

// checkOverlap refuses a subnet that the machine has routes to, except over the
// pool's own link and over ends of sandboxes.
func (n *Network) checkOverlap(ctx context.Context, pc PoolConfig) error {
	_, err := do(ctx, n.machine, "list routes", "", func(s *netlink.Handle) (struct{}, error) {
		routes, err := s.RouteList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return struct{}{}, err
		}
		for _, r := range routes {
			if r.Dst == nil || r.Type != 0 && r.Type != unicast {
				continue
			}
			dst, err := prefixOf(r.Dst)
			if err != nil {
				return struct{}{}, err
			}
			if dst.Bits() == 0 || !dst.Overlaps(pc.Subnet) {
				continue
			}
			link, err := s.LinkByIndex(r.LinkIndex)
			if errors.Is(explain(err), os.ErrNotExist) {
				continue // gone since, and the route with it
			}
			if err != nil {
				return struct{}{}, err
			}
			name := link.Attrs().Name
			if name == pc.Link || strings.HasPrefix(link.Attrs().Alias, aliasPrefix+" "+n.scope+" ") {
				continue
			}
			return struct{}{}, &OverlapError{Pool: pc.Name, Subnet: pc.Subnet, Route: dst, Link: name}
		}
		return struct{}{}, nil
	})
	return err
}

const unicast = 1 // RTN_UNICAST

// Close frees the descriptors, and ends the namespaces that were kept ready. The
// networks live on. Closing twice is nil.
func (n *Network) Close() error {
	if n == nil {
		return nil
	}
	return errors.Join(n.warm.close(), n.machine.Close(), n.ns.Close())
}

// Pins is the directory of the namespaces.
func (n *Network) Pins() Pins { return n.pins }

// Pool is the pool of that name, or nil.
func (n *Network) Pool(name string) *Pool { return n.pools[name] }

// Machine is the handle on the machine's namespace. It is the network's.
func (n *Network) Machine() *Handle { return n.machine }

// alone waits for the other calls for one owner.
func (n *Network) alone(ctx context.Context, owner string) (done func(), err error) {
	if err := checkOwner(owner); err != nil {
		return nil, err
	}
	n.mu.Lock()
	t := n.turns[owner]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		n.turns[owner] = t
	}
	t.users++
	n.mu.Unlock()
	leave := func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(n.turns, owner)
		}
	}
	select {
	case t.token <- struct{}{}:
		return func() { <-t.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// undoTime bounds the taking apart of what a Create that failed has made.
const undoTime = 30 * time.Second

// Create makes the network of owner, in [ModeNew], whole or not at all.
//
// Errors: [ErrInvalid] before anything is touched; [os.ErrExist] if the owner has
// a network; [os.ErrNotExist] if a bridge or parent does not exist;
// [ErrNotSupported] if this kernel lacks a kind of link or the shaper;
// [ErrExhausted]; [*OpError] with the kernel's answer. Where ctx ends, what was
// made is taken apart before Create returns.
func (n *Network) Create(ctx context.Context, owner string, spec Spec) (*Attachment, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.Mode != ModeNew {
		return nil, &namespaces.InvalidError{Field: "network.mode", Value: string(spec.Mode), Reason: "nothing is made for it"}
	}
	if len(spec.Ports) > 0 && n.firewall == nil {
		return nil, &namespaces.UnsupportedError{Feature: "published ports", Reason: "no firewall was configured"}
	}
	for _, i := range spec.Interfaces {
		if spec.Isolated && i.Kind == Veth && i.Bridge == "" && n.firewall == nil {
			return nil, &namespaces.UnsupportedError{Feature: "isolation of a routed interface", Reason: "no firewall was configured"}
		}
		if i.Kind == Physical && n.moved == "" {
			return nil, &namespaces.InvalidError{Field: "interface kind", Value: string(i.Kind), Reason: "needs a state directory"}
		}
		for _, name := range i.Pools {
			if n.pools[name] == nil {
				return nil, &namespaces.InvalidError{Field: "pool", Value: clip(name), Reason: "no such pool"}
			}
		}
		if _, set := i.Bandwidth.Priority.Value(); set {
			if err := n.keepsPriority(i); err != nil {
				return nil, err
			}
		}
	}
	done, err := n.alone(ctx, owner)
	if err != nil {
		return nil, err
	}
	defer done()
	defer n.warm.refill()
	a := &Attachment{network: n, owner: owner, spec: spec.Clone()}
	if err := a.begin(ctx); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	if err = a.make(ctx); err == nil {
		return a, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return nil, errors.Join(err, a.Close(), n.destroy(undo, owner))
}

// Open holds the network that owner has, made by this or an earlier process with
// an equal spec; for [ModeJoin] and [ModeHost], the network that the spec means.
// The error matches [os.ErrNotExist] if there is none, or no longer a whole one.
func (n *Network) Open(ctx context.Context, owner string, spec Spec) (*Attachment, error) {
	if err := errors.Join(checkOwner(owner), spec.Validate()); err != nil {
		return nil, err
	}
	var ns *namespaces.Handle
	var err error
	switch {
	case spec.Mode == ModeHost:
		ns, err = n.ns.Clone()
	case spec.Mode == ModeJoin && strings.HasPrefix(spec.Join, "/"):
		ns, err = openNetwork(spec.Join)
	case spec.Mode == ModeJoin:
		ns, err = n.pins.Open(n.pinName(spec.Join))
	case spec.Mode == ModeNew:
		ns, err = n.pins.Open(n.pinName(owner))
		if errors.Is(err, namespaces.ErrNotNamespace) {
			err = fmt.Errorf("%w: %w", os.ErrNotExist, err)
		}
	default:
		err = &namespaces.InvalidError{Field: "network.mode", Reason: "none"}
	}
	if err != nil {
		return nil, err
	}
	a := &Attachment{network: n, owner: owner, spec: spec.Clone(), ns: ns}
	if err := a.find(ctx); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Destroy removes the network of owner, half-made or whole, made by this or an
// earlier process, and returns once its links are gone and its addresses are
// free. None is nil, so it may be repeated.
//
// The namespace goes with its last process and handle, and the links with the
// namespace: so the processes are to be ended, and attachments closed, first.
// Links that are still there after some seconds are deleted, which takes the
// network from whoever still has it.
func (n *Network) Destroy(ctx context.Context, owner string) error {
	done, err := n.alone(ctx, owner)
	if err != nil {
		return err
	}
	defer done()
	return n.destroy(ctx, owner)
}

func (n *Network) destroy(ctx context.Context, owner string) error {
	if n.firewall != nil {
		if err := n.firewall.Remove(ctx, owner); err != nil {
			return err
		}
	}
	pin := n.pinName(owner)
	if err := n.giveBack(ctx, owner, pin); err != nil {
		return err
	}
	if err := n.pins.Remove(pin); err != nil {
		return err
	}
	for i := range maxInterfaces {
		there, err := n.awaitGone(ctx, owner, n.linkName(owner, i))
		if err != nil {
			return err
		}
		if !there {
			break
		}
	}
	var errs []error
	for _, name := range n.poolNames() {
		errs = append(errs, n.pools[name].Release(ctx, owner))
	}
	return errors.Join(errs...)
}

func (n *Network) poolNames() []string {
	var names []string
	for name := range n.pools {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Owners lists everybody of whom there is a namespace, a link, an address or a
// rule.
func (n *Network) Owners(ctx context.Context) ([]string, error) {
	var all []string
	pins, err := n.pins.Names(n.pinName(""))
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		all = append(all, strings.TrimPrefix(p, n.pinName("")))
	}
	marked, err := do(ctx, n.machine, "list links", "", func(s *netlink.Handle) ([]string, error) {
		links, err := s.LinkList()
		if err != nil {
			return nil, err
		}
		var owners []string
		for _, l := range links {
			if owner, ours := n.ownerOf(l.Attrs().Alias); ours {
				owners = append(owners, owner)
			}
		}
		return owners, nil
	})
	if err != nil {
		return nil, err
	}
	all = append(all, marked...)
	for _, name := range n.poolNames() {
		leases, err := n.pools[name].Leases(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range leases {
			all = append(all, l.Owner)
		}
	}
	if n.firewall != nil {
		ruled, err := n.firewall.Owners(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, ruled...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Sweep removes what is there of owners that live says no longer exist, and
// returns them; one that cannot be removed is in the error, and the others are
// removed all the same.
func (n *Network) Sweep(ctx context.Context, live func(owner string) bool) (removed []string, err error) {
	owners, err := n.Owners(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, o := range owners {
		if live(o) {
			continue
		}
		if err := n.Destroy(ctx, o); err != nil {
			errs = append(errs, fmt.Errorf("network of %q: %w", o, err))
			continue
		}
		removed = append(removed, o)
	}
	return removed, errors.Join(errs...)
}
