// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/caisson-run/caisson/internal/rtnl"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// shapeHandle marks the queueing disciplines that are ours: "ca15:".
const shapeHandle = 0xca15 << 16

// SetBandwidth changes what b sets of the limits and the priority of the interface
// called name inside, "" for the first, while it is in use: all of it or, on an error,
// nothing. The queue and all connections stay.
//
// Egress is kept by a token bucket (tc-tbf(8)) inside, out of the reach of
// processes without CAP_NET_ADMIN over the namespace; ingress by one at the
// machine's end. A burst that shrinks below 128 KiB does so at once only if nothing
// waits in the queue, see [BitsPerSecond]: what is larger would never leave. The
// priority is set by a filter (tc-bpf(8), in direct-action mode) at
// the machine's end of a veth, and inside of other kinds. Errors: [ErrInvalid];
// [ErrNotSupported] if the kernel has no such queue or filter, the interface has no end
// on the machine, or a priority would be lost there; [os.ErrExist] if somebody else's queue
// or filter is in the place.
func (a *Attachment) SetBandwidth(ctx context.Context, name string, b Bandwidth) error {
	if err := b.Validate(); err != nil {
		return err
	}
	p, err := a.plugNamed(name)
	if err != nil {
		return err
	}
	if !b.Ingress.IsZero() && p.Kind != Veth {
		return &namespaces.UnsupportedError{Feature: "ingress limit of a " + string(p.Kind), Reason: "it has no end on the machine"}
	}
	if !b.Priority.IsZero() {
		if err := a.canPrioritize(p.Interface, b.Priority); err != nil {
			return err
		}
		done, err := a.network.alone(ctx, a.owner)
		if err != nil {
			return err
		}
		defer done()
	}
	return a.shape(ctx, p, b)
}

// shapeNew sets what an interface gets that was made just now, or was made ready with
// what has says.
func (a *Attachment) shapeNew(ctx context.Context, p *plug, has Bandwidth) error {
	for _, end := range []struct {
		h         *Handle
		index     int
		name      string
		want, has Limit
	}{
		{a.network.machine, p.machineIndex, p.machine, p.Bandwidth.Ingress, has.Ingress},
		{a.inside, p.insideIndex, p.name, p.Bandwidth.Egress, has.Egress},
	} {
		switch {
		case end.want == end.has:
			continue
		case end.want.IsZero():
			end.want = Unlimited()
		}
		if err := setLimit(ctx, end.h, end.index, end.name, p.MTU, end.want, end.has.IsZero()); err != nil {
			return err
		}
	}
	if p.Bandwidth.Priority == has.Priority {
		return nil
	}
	return a.mark(ctx, p, p.Bandwidth.Priority, has.Priority.IsZero())
}

// shape changes what an interface gets.
func (a *Attachment) shape(ctx context.Context, p *plug, b Bandwidth) error {
	var steps []func(ctx context.Context, b Bandwidth) error
	if !b.Ingress.IsZero() {
		steps = append(steps, func(ctx context.Context, b Bandwidth) error {
			return setLimit(ctx, a.network.machine, p.machineIndex, p.machine, p.MTU, b.Ingress, false)
		})
	}
	if !b.Egress.IsZero() {
		steps = append(steps, func(ctx context.Context, b Bandwidth) error {
			return setLimit(ctx, a.inside, p.insideIndex, p.name, p.MTU, b.Egress, false)
		})
	}
	if !b.Priority.IsZero() {
		steps = append(steps, func(ctx context.Context, b Bandwidth) error { return a.prioritize(ctx, p, b.Priority) })
	}
	var before Bandwidth
	if len(steps) > 1 {
		var err error
		if before, err = a.bandwidth(ctx, p); err != nil {
			return err
		}
	}
	for i, step := range steps {
		err := step(ctx, b)
		if err == nil {
			continue
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		for _, done := range steps[:i] {
			err = errors.Join(err, done(undo, before))
		}
		return err
	}
	return nil
}

// Bandwidth reads the limits and the priority that hold from the kernel. Directions
// without a limit, or with somebody else's queue, are unlimited.
func (a *Attachment) Bandwidth(ctx context.Context, name string) (Bandwidth, error) {
	p, err := a.plugNamed(name)
	if err != nil {
		return Bandwidth{}, err
	}
	return a.bandwidth(ctx, p)
}

func (a *Attachment) bandwidth(ctx context.Context, p *plug) (b Bandwidth, err error) {
	if b.Egress, err = limitOf(ctx, a.inside, p.insideIndex, p.name); err != nil {
		return Bandwidth{}, err
	}
	b.Ingress = Unlimited()
	if p.Kind == Veth {
		if b.Ingress, err = limitOf(ctx, a.network.machine, p.machineIndex, p.machine); err != nil {
			return Bandwidth{}, err
		}
	}
	if b.Priority, err = a.priority(ctx, p); err != nil {
		return Bandwidth{}, err
	}
	return b, nil
}

// liftedRate is that of a limit that was lifted. Deleting the queue would drop
// what is in it.
const liftedRate = 8 << 40

// setLimit limits what the link of that index sends, whose packets have at most mtu
// bytes, 0 if that is not much; fresh says that it surely has no limit yet.
func setLimit(ctx context.Context, h *Handle, index int, name string, mtu int, l Limit, fresh bool) error {
	_, err := do(ctx, h, "shape", name, func(s *netlink.Handle) (struct{}, error) {
		attrs := netlink.QdiscAttrs{LinkIndex: index, Handle: shapeHandle, Parent: netlink.HANDLE_ROOT}
		rate, limited := l.Rate()
		burst := max(l.Burst(), uint64(mtu+frameSize))
		if !limited {
			rate, burst = liftedRate, minBurst
		}
		bytes := rate / 8
		queue := bytes/20 + max(burst, minBurst) // what passes in 50 ms, and a burst
		tbf := &netlink.Tbf{
			QdiscAttrs: attrs, Rate: bytes, Buffer: ticks(burst, bytes),
			Limit: uint32(min(max(queue, 64<<10), 1<<30)),
		}
		if fresh {
			if !limited {
				return struct{}{}, nil
			}
			if err := s.QdiscAdd(tbf); !errors.Is(err, syscall.EEXIST) {
				return struct{}{}, noKind("tbf", err)
			}
		}
		// Changed in place if it is there: created only where the link has no
		// queue but the kernel's default one.
		err := changeQueue(h, s, tbf, burst)
		if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EEXIST) {
			return struct{}{}, err
		}
		if !limited {
			return struct{}{}, nil // there is none, or it is not ours
		}
		if err = foreignQueue(s, index); err == nil {
			err = noKind("tbf", s.QdiscAdd(tbf))
		}
		return struct{}{}, err
	})
	return err
}

// frameSize is what a packet has besides, and more.
const frameSize = 64

// changeQueue changes the queue of a link in place. Where its burst shrinks, what
// waits in it already may be larger than the new one, and would wait for ever; what
// comes from then on is not. So the burst stays as large as that needs until a change
// finds the queue empty.
func changeQueue(h *Handle, s *netlink.Handle, tbf *netlink.Tbf, burst uint64) error {
	least := burst
	if burst < minBurst {
		q, err := rootQueue(s, tbf.LinkIndex)
		if err != nil {
			return err
		}
		if was, ours := q.(*netlink.Tbf); ours && was.Handle == shapeHandle {
			least = max(burst, min(burstOf(was)+1, minBurst)) // it is rounded
		}
	}
	small, large := tbf.Buffer, ticks(least, tbf.Rate)
	tbf.Buffer = large
	if err := s.QdiscChange(tbf); err != nil || small == large {
		return err
	}
	waits := func() (bool, error) {
		c, err := h.direct.Qdisc(tbf.LinkIndex, shapeHandle)
		return c.Backlog > 0, err
	}
	if some, err := waits(); some || err != nil {
		return err
	}
	tbf.Buffer = small
	if err := s.QdiscChange(tbf); err != nil {
		return err
	}
	if some, err := waits(); !some || err != nil {
		return err
	}
	tbf.Buffer = large // something came before the small one
	return s.QdiscChange(tbf)
}

// burstOf is the burst in bytes, which the kernel keeps as a time.
func burstOf(tbf *netlink.Tbf) uint64 { return (uint64(tbf.Buffer)*64*tbf.Rate + 1e9/2) / 1e9 }

// foreignQueue is an error if the link has a root queue that somebody chose.
func foreignQueue(s *netlink.Handle, index int) error {
	q, err := rootQueue(s, index)
	if err != nil || q == nil || q.Attrs().Handle>>16 == 0 || q.Attrs().Handle == shapeHandle {
		return err
	}
	return fmt.Errorf("%w: the link has a queue of kind %s, %s", os.ErrExist, q.Type(), netlink.HandleStr(q.Attrs().Handle))
}

// rootQueue is the root queueing discipline, or nil.
func rootQueue(s *netlink.Handle, index int) (netlink.Qdisc, error) {
	all, err := s.QdiscList(byIndex(index))
	if err != nil {
		return nil, err
	}
	for _, q := range all {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			return q, nil
		}
	}
	return nil, nil //nolint:nilnil // most links have none
}

// limitOf reads what setLimit set.
func limitOf(ctx context.Context, h *Handle, index int, name string) (Limit, error) {
	return do(ctx, h, "look at the queue of", name, func(s *netlink.Handle) (Limit, error) {
		q, err := rootQueue(s, index)
		if err != nil {
			return Limit{}, err
		}
		tbf, ok := q.(*netlink.Tbf)
		if !ok || tbf.Handle != shapeHandle || tbf.Rate >= liftedRate/8 {
			return Unlimited(), nil
		}
		l := BitsPerSecond(tbf.Rate * 8)
		// Exact for the burst that the rate suggests; what is below those that can be
		// asked for stands for it.
		burst, rounded := burstOf(tbf), tbf.Rate/1e7+1
		if burst+rounded >= minBurst && (burst > l.Burst()+rounded || burst+rounded < l.Burst()) {
			l = l.WithBurst(max(burst, minBurst))
		}
		return l, nil
	})
}

// ticks is the time that so many bytes take at a rate, in the kernel's units for
// it: 64 ns (PSCHED_SHIFT of include/net/pkt_sched.h).
func ticks(bytes, rate uint64) uint32 {
	return uint32(min(float64(bytes)*1e9/64/float64(rate)+0.5, 1<<32-1))
}

// Stat measures the interface called name inside, "" for the first, into st,
// which is unchanged after an error. It does not allocate. Where there are limits
// it waits for the kernel's lock on network configuration.
func (a *Attachment) Stat(name string, st *InterfaceStats) error {
	p, err := a.plugNamed(name)
	if err != nil {
		return err
	}
	var got InterfaceStats
	if err := a.inside.Stats(p.name, &got.Link); err != nil {
		return err
	}
	if err := a.inside.queue(p.insideIndex, p.name, shapeHandle, &got.Egress); err != nil {
		return err
	}
	if p.Kind == Veth {
		if err := a.network.machine.queue(p.machineIndex, p.machine, shapeHandle, &got.Ingress); err != nil {
			return err
		}
	}
	*st = got
	return nil
}

// queue reads the counters of a queueing discipline; one that does not exist
// counts nothing.
func (h *Handle) queue(index int, name string, handle uint32, q *Queue) error {
	c, err := h.direct.Qdisc(index, handle)
	return h.queued(name, q, c, err)
}

func (h *Handle) queued(name string, q *Queue, c rtnl.Counters, err error) error {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	if err != nil {
		return &OpError{Op: "count the queue of", Link: name, NS: h.id, Err: explain(err)}
	}
	*q = Queue{Bytes: c.Bytes, Packets: c.Packets, Drops: uint64(c.Drops), Overlimits: uint64(c.Overlimits),
		Backlog: uint64(c.Backlog), Waiting: uint64(c.Waiting)}
	return nil
}
