// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"strings"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// warmPool keeps some namespaces ready. A nil pool has none.
type warmPool struct {
	ready chan *prepared
	low   chan struct{} // has room for one: there are few
	stop  context.CancelFunc
	ended chan struct{}
}

// prepared is a namespace that is pinned nowhere: it ends with the process.
type prepared struct {
	ns     *namespaces.Handle
	inside *Handle

	// A veth whose end inside is warmName; 0: none.
	machineIndex, insideIndex int
	machineMAC                net.HardwareAddr
}

const (
	warmName   = "eth0"
	defaultMTU = 1500 // of a new veth
)

func (p *prepared) close() error {
	if p == nil {
		return nil
	}
	return errors.Join(p.inside.Close(), p.ns.Close())
}

// prepare makes a namespace whose loopback device is up.
func prepare(ctx context.Context) (p *prepared, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p = &prepared{}
	if p.ns, err = namespaces.Create(namespaces.Network); err != nil {
		return nil, err
	}
	if p.inside, err = Open(p.ns); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// newWarmPool keeps size namespaces ready, each with a veth that leads to the
// machine.
func newWarmPool(machine *Handle, size int) *warmPool {
	ctx, stop := context.WithCancel(context.Background())
	w := &warmPool{ready: make(chan *prepared, size), low: make(chan struct{}, 1), stop: stop, ended: make(chan struct{})}
	go w.fill(ctx, machine)
	return w
}

// fill makes namespaces whenever there are few. If the kernel refuses, it waits for
// the next time; who needs a namespace meanwhile makes it, and hears why that fails.
func (w *warmPool) fill(ctx context.Context, machine *Handle) {
	defer close(w.ended)
	for {
		for len(w.ready) < cap(w.ready) {
			p, err := prepare(ctx)
			if err != nil {
				break
			}
			if err := p.addVeth(ctx, machine); err != nil {
				_ = p.close()
				break
			}
			w.ready <- p // nobody else puts any in
		}
		select {
		case <-w.low:
		case <-ctx.Done():
			return
		}
	}
}

// refill is called when a network was made: not before, as the making of the next
// would take the kernel's lock from it, and not for each, for the same reason.
func (w *warmPool) refill() {
	if w == nil || len(w.ready) > cap(w.ready)/2 {
		return
	}
	select {
	case w.low <- struct{}{}:
	default:
	}
}

// addVeth makes a pair of which nobody is the owner yet: it ends with the
// namespace, that is with this process.
func (p *prepared) addVeth(ctx context.Context, machine *Handle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = linkPrefix + "-" + strings.ToLower(rand.Text()[:maxName-len(linkPrefix)-1])
	p.machineMAC = randomMAC()
	attrs.HardwareAddr = p.machineMAC
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: warmName, PeerNamespace: netlink.NsFd(p.ns.FD())}
	index, err := once(ctx, machine, "make", attrs.Name, func(s *netlink.Handle) (int, error) {
		err := s.LinkAdd(veth)
		return veth.Index, err
	})
	if err != nil {
		return err
	}
	p.machineIndex = index
	if err := namespaces.Do(func() error { return os.WriteFile("/proc/sys/"+acceptDAD(warmName), []byte("0"), 0) }, p.ns); err != nil &&
		!errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		return err
	}
	p.insideIndex, err = once(ctx, p.inside, "prepare", warmName, func(s *netlink.Handle) (int, error) {
		if err := s.LinkSetUp(byIndex(loopbackIndex)); err != nil {
			return 0, err
		}
		link, err := s.LinkByName(warmName)
		if err != nil {
			return 0, err
		}
		return link.Attrs().Index, nil
	})
	return err
}

// randomMAC is an address that no bridge takes for its own: those prefer the
// lowest of their ports.
func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = 0xfe
	return mac
}

// take is a namespace that is ready, or nil.
func (w *warmPool) take() *prepared {
	if w == nil {
		return nil
	}
	select {
	case p := <-w.ready:
		return p
	default:
		return nil
	}
}

func (w *warmPool) close() error {
	if w == nil {
		return nil
	}
	w.stop()
	<-w.ended
	var errs []error
	for p := w.take(); p != nil; p = w.take() {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}
