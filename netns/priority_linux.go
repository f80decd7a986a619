// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/bpf"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// Ours is the filter of this preference and handle whose name says what it does: in
// front of those that the kernel numbers, so that another filter has the last word.
const (
	priorityPref   = 0xca1
	priorityHandle = 1
	priorityName   = "caisson priority "
)

// markAt is where the packets of an interface get their priority: where they come to
// the machine from a veth, which has taken theirs away, and where they leave the
// sandbox by another kind of link.
func (a *Attachment) markAt(p *plug) (h *Handle, index int, name string, hook uint32) {
	if p.Kind == Veth {
		return a.network.machine, p.machineIndex, p.machine, netlink.HANDLE_MIN_INGRESS
	}
	return a.inside, p.insideIndex, p.name, netlink.HANDLE_MIN_EGRESS
}

// prioritize changes the priority of an interface, of the sandbox's link and of what
// the firewall sees of it: both or, on an error, neither.
func (a *Attachment) prioritize(ctx context.Context, p *plug, to Priority) error {
	if err := a.canPrioritize(p.Interface, to); err != nil {
		return err
	}
	for _, o := range a.plugs { // another process may have changed them
		if err := a.findPriority(ctx, o); err != nil {
			return err
		}
	}
	before := p.Bandwidth.Priority
	if err := a.mark(ctx, p, to, false); err != nil {
		return err
	}
	p.Bandwidth.Priority = to
	err := a.publish(ctx)
	if err != nil {
		p.Bandwidth.Priority = before
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		err = errors.Join(err, a.mark(undo, p, before, false))
	}
	return err
}

// canPrioritize refuses what would not have its priority where the machine forwards.
func (a *Attachment) canPrioritize(in Interface, to Priority) error {
	if _, set := to.Value(); !set {
		return nil
	}
	if in.Kind == Physical {
		return &namespaces.UnsupportedError{Feature: "priority of a " + string(in.Kind) + " interface", Reason: "it is nobody else's"}
	}
	return a.network.keepsPriority(in)
}

// keepsPriority is an error for a routed interface whose packets would lose their
// priority on the machine.
func (n *Network) keepsPriority(in Interface) error {
	if in.Kind != Veth || in.Bridge != "" || n.firewall != nil {
		return nil
	}
	v4 := slices.ContainsFunc(in.Pools, func(name string) bool { return n.pools[name] != nil && n.pools[name].cfg.Subnet.Addr().Is4() })
	for _, addr := range in.Addrs {
		v4 = v4 || addr.Addr().Is4()
	}
	if !v4 {
		return nil
	}
	return &namespaces.UnsupportedError{Feature: "priority of a routed interface",
		Reason: "the kernel takes another one for IPv4 that it forwards, and no firewall was configured to set it again"}
}

// mark has packets of an interface get a priority; fresh says that they surely get
// none yet.
func (a *Attachment) mark(ctx context.Context, p *plug, to Priority, fresh bool) error {
	h, index, name, hook := a.markAt(p)
	return setPriority(ctx, h, index, name, hook, to, fresh)
}

func setPriority(ctx context.Context, h *Handle, index int, name string, hook uint32, to Priority, fresh bool) error {
	value, set := to.Value()
	if fresh && !set {
		return nil
	}
	_, err := do(ctx, h, "set the priority of", name, func(s *netlink.Handle) (struct{}, error) {
		if !fresh {
			has, foreign, err := priorityOf(s, index, hook)
			switch {
			case err != nil || has == to || !set && has == DefaultPriority():
				return struct{}{}, err
			case foreign != nil:
				return struct{}{}, fmt.Errorf("%w: the link has a filter of kind %s at %d", os.ErrExist, foreign.Type(), priorityPref)
			}
		}
		filter := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: hook, Handle: priorityHandle, Priority: priorityPref, Protocol: syscall.ETH_P_ALL},
			Name:        priorityName + to.String(), Fd: -1, DirectAction: true,
		}
		if !set {
			err := s.FilterDel(filter)
			if errors.Is(err, syscall.ENOENT) {
				err = nil
			}
			return struct{}{}, err
		}
		prog, err := bpf.Load(bpf.Filter, "cais_priority", bpf.Priority(value))
		if err != nil {
			return struct{}{}, noPrograms(err)
		}
		defer prog.Close()
		filter.Fd = prog.FD()
		clsact := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		if err := s.QdiscAdd(clsact); err != nil && !errors.Is(err, syscall.EEXIST) {
			return struct{}{}, noKind("clsact", err)
		}
		return struct{}{}, noKind("bpf filter", s.FilterReplace(filter))
	})
	return err
}

// noPrograms says that the kernel takes none, where err means that.
func noPrograms(err error) error {
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL) {
		return &namespaces.UnsupportedError{Feature: "bpf filter", Reason: "this kernel does not take the program", Err: err}
	}
	return err
}

// findPriority has the firewall told what holds, whatever the spec said at first.
func (a *Attachment) findPriority(ctx context.Context, p *plug) (err error) {
	p.Bandwidth.Priority, err = a.priority(ctx, p)
	return err
}

// priority reads the priority of an interface from the kernel.
func (a *Attachment) priority(ctx context.Context, p *plug) (Priority, error) {
	h, index, name, hook := a.markAt(p)
	return do(ctx, h, "look at the priority of", name, func(s *netlink.Handle) (Priority, error) {
		has, _, err := priorityOf(s, index, hook)
		return has, err
	})
}

// priorityOf reads what setPriority set; foreign is what somebody else has in its place.
func priorityOf(s *netlink.Handle, index int, hook uint32) (p Priority, foreign netlink.Filter, err error) {
	all, err := s.FilterList(byIndex(index), hook)
	if err != nil {
		return Priority{}, nil, err
	}
	for _, f := range all {
		if f.Attrs().Priority != priorityPref {
			continue
		}
		if b, ok := f.(*netlink.BpfFilter); ok {
			if text, ours := strings.CutPrefix(b.Name, priorityName); ours {
				if p, err := ParsePriority(text); err == nil {
					return p, nil, nil
				}
			}
		}
		foreign = f
	}
	return DefaultPriority(), foreign, nil
}
