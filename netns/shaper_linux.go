// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// Shaper shares a link of the machine between classes of sandboxes: each has its
// rate for sure, and borrows what others leave, those of higher priority first.
// It is a hierarchy of token buckets (tc-htb(8)), and stays when this process
// ends. It is safe for concurrent use.
//
// What no class matches shares what the classes leave. On a link to the outside
// the machine's own address translation comes first, so classes of source
// addresses do not match what was masqueraded; [Shaper.Priority] leads there.
type Shaper struct {
	cfg   ShaperConfig
	h     *Handle
	index int
}

// OpenShaper puts the queue of c on a link that h's namespace has, or takes over
// the one that an earlier process put there, with a new rate if that is another.
// h must stay open.
//
// Errors: [ErrInvalid]; [os.ErrNotExist] if there is no such link; [os.ErrExist]
// if it has a queue of somebody else; [ErrNotSupported] if the kernel has none of
// this kind.
func OpenShaper(ctx context.Context, h *Handle, c ShaperConfig) (*Shaper, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Shaper{cfg: c, h: h}
	index, err := once(ctx, h, "shape", c.Link, func(sock *netlink.Handle) (int, error) {
		link, err := sock.LinkByName(c.Link)
		if err != nil {
			return 0, err
		}
		index := link.Attrs().Index
		if err := foreignQueue(sock, index); err != nil {
			return 0, err
		}
		q, err := rootQueue(sock, index)
		if err != nil {
			return 0, err
		}
		if q == nil || q.Attrs().Handle != shapeHandle {
			htb := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: index, Handle: shapeHandle, Parent: netlink.HANDLE_ROOT})
			htb.Defcls = restClass
			if err := sock.QdiscAdd(htb); err != nil {
				return 0, noKind("htb", err)
			}
		} else if q.Type() != "htb" {
			return 0, fmt.Errorf("%w: the link has a limit of its own", syscall.EEXIST)
		}
		whole := Class{ID: rootClass, Rate: c.Rate}
		if err := sock.ClassReplace(whole.htb(index, netlink.MakeHandle(shapeHandle>>16, 0), c.Rate)); err != nil {
			return 0, err
		}
		rest := Class{ID: restClass, Rate: BitsPerSecond(minRate), Priority: 7}
		return index, sock.ClassReplace(rest.htb(index, netlink.MakeHandle(shapeHandle>>16, rootClass), c.Rate))
	})
	if err != nil {
		return nil, err
	}
	s.index = index
	return s, nil
}

// htb is the class as the kernel has it.
func (c Class) htb(index int, parent uint32, link Limit) *netlink.HtbClass {
	rate, _ := c.Rate.Rate()
	ceil, ok := c.Ceil.Rate()
	if !ok {
		ceil, _ = link.Rate()
	}
	ceil = max(ceil, rate)
	burst := max(c.Rate.Burst(), minBurst)
	return &netlink.HtbClass{
		ClassAttrs: netlink.ClassAttrs{LinkIndex: index, Parent: parent, Handle: netlink.MakeHandle(shapeHandle>>16, c.ID)},
		Rate:       rate / 8, Ceil: ceil / 8,
		Buffer: ticks(burst, rate/8), Cbuffer: ticks(burst, ceil/8),
		Quantum: quantum, Prio: uint32(c.Priority),
	}
}

// quantum is what a class of the same priority sends in its turn: more than one
// large packet makes turns long, less than one costs turns.
const quantum = 60_000

// Set makes or changes a class while it is in use, without dropping a packet. If
// it fails, a class that was there keeps its rates; which addresses it matches may
// then be fewer, until Set succeeds.
func (s *Shaper) Set(ctx context.Context, c Class) error {
	if err := c.Validate(); err != nil {
		return err
	}
	_, err := once(ctx, s.h, "set a class of", s.cfg.Link, func(sock *netlink.Handle) (struct{}, error) {
		parent := netlink.MakeHandle(shapeHandle>>16, rootClass)
		if err := sock.ClassReplace(c.htb(s.index, parent, s.cfg.Rate)); err != nil {
			return struct{}{}, noKind("htb", err)
		}
		have, err := s.filters(sock, c.ID)
		if err != nil {
			return struct{}{}, err
		}
		// New ones first, so that nobody is without in between.
		keep := map[string]bool{}
		for _, p := range c.Match {
			f := s.filter(c.ID, p)
			keep[filterKey(f)] = true
			if have[filterKey(f)] == nil {
				if err := sock.FilterAdd(f); err != nil {
					return struct{}{}, noKind("u32", err)
				}
			}
		}
		for key, f := range have {
			if !keep[key] {
				if err := sock.FilterDel(f); err != nil && !errors.Is(err, syscall.ENOENT) {
					return struct{}{}, err
				}
			}
		}
		return struct{}{}, nil
	})
	return err
}

// Remove takes a class away; what it matched shares what the others leave. None
// is nil.
func (s *Shaper) Remove(ctx context.Context, id uint16) error {
	if id < firstClass || id > lastClass {
		return Class{ID: id, Rate: BitsPerSecond(minRate)}.Validate()
	}
	_, err := once(ctx, s.h, "remove a class of", s.cfg.Link, func(sock *netlink.Handle) (struct{}, error) {
		have, err := s.filters(sock, id)
		if err != nil {
			return struct{}{}, err
		}
		for _, f := range have {
			if err := sock.FilterDel(f); err != nil && !errors.Is(err, syscall.ENOENT) {
				return struct{}{}, err
			}
		}
		class := Class{ID: id, Rate: BitsPerSecond(minRate)}
		err = sock.ClassDel(class.htb(s.index, netlink.MakeHandle(shapeHandle>>16, rootClass), s.cfg.Rate))
		if errors.Is(err, syscall.ENOENT) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// Priority is what leads the packets of a sandbox into a class, whatever their
// addresses, as the [Priority] of its interfaces.
func (*Shaper) Priority(id uint16) Priority { return PriorityClass(shapeHandle>>16, id) }

// Stat reads the counters of a class into q, without allocating. A class that
// does not exist counts nothing.
func (s *Shaper) Stat(id uint16, q *Queue) error {
	c, err := s.h.direct.Class(s.index, netlink.MakeHandle(shapeHandle>>16, id))
	return s.h.queued(s.cfg.Link, q, c, err)
}

// Delete takes the queue with all its classes off the link. What is in it is
// dropped.
func (s *Shaper) Delete(ctx context.Context) error {
	_, err := do(ctx, s.h, "unshape", s.cfg.Link, func(sock *netlink.Handle) (struct{}, error) {
		err := sock.QdiscDel(netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: s.index, Handle: shapeHandle, Parent: netlink.HANDLE_ROOT}))
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENODEV) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// filter matches a network's packets. Those of one family are in one list, which
// the kernel goes through in order.
func (s *Shaper) filter(id uint16, p netip.Prefix) *netlink.U32 {
	protocol, offset, priority := uint16(syscall.ETH_P_IP), int32(12), uint16(4)
	if s.cfg.Direction == ToSandboxes {
		offset = 16
	}
	if p.Addr().Is6() {
		protocol, offset, priority = syscall.ETH_P_IPV6, 8, 6
		if s.cfg.Direction == ToSandboxes {
			offset = 24
		}
	}
	addr, mask := p.Addr().AsSlice(), ipNet(p).Mask
	sel := &nl.TcU32Sel{Flags: nl.TC_U32_TERMINAL}
	for i := 0; i < len(addr); i += 4 {
		if m := binary.BigEndian.Uint32(mask[i:]); m != 0 || i == 0 {
			sel.Keys = append(sel.Keys, nl.TcU32Key{Mask: m, Val: binary.BigEndian.Uint32(addr[i:]), Off: offset + int32(i)})
		}
	}
	sel.Keys = slices.Clip(sel.Keys) // the library sends up to the capacity
	sel.Nkeys = uint8(len(sel.Keys))
	return &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: s.index, Parent: shapeHandle, Priority: priority, Protocol: protocol},
		ClassId:     netlink.MakeHandle(shapeHandle>>16, id), Sel: sel,
	}
}

// filters are those that lead to a class, by what they match.
func (s *Shaper) filters(sock *netlink.Handle, id uint16) (map[string]netlink.Filter, error) {
	all, err := sock.FilterList(byIndex(s.index), shapeHandle)
	if err != nil {
		return nil, err
	}
	found := map[string]netlink.Filter{}
	for _, f := range all {
		if u, ok := f.(*netlink.U32); ok && u.Sel != nil && u.ClassId == netlink.MakeHandle(shapeHandle>>16, id) {
			found[filterKey(u)] = u
		}
	}
	return found, nil
}

func filterKey(u *netlink.U32) string { return fmt.Sprint(u.Protocol, u.Sel.Keys) }
