// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// warmPool keeps some namespaces ready. A nil pool has none.
type warmPool struct {
	ready chan *prepared
	low   chan struct{} // has room for one: there are few, or there is something to learn
	stop  context.CancelFunc
	ended chan struct{}

	mu   sync.Mutex
	like likeness
}

// likeness is what the machine's end of a veth has, besides a name: what one that
// waits can have before anybody needs it. The zero likeness is a link that was
// just made.
type likeness struct {
	bridge            string
	index             int // of the bridge
	mtu               int
	isolated, hairpin bool
	limits            Bandwidth
}

// prepared is a namespace that is pinned nowhere: it ends with the process.
type prepared struct {
	ns     *namespaces.Handle
	inside *Handle

	// A veth whose end inside is warmName; 0: none.
	machineIndex, insideIndex int
	machineMAC                net.HardwareAddr
	like                      likeness
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

// fill makes namespaces whenever there are few, like the last network that was
// made. If the kernel refuses, it waits for the next time; who needs a namespace
// meanwhile makes it, and hears why that fails.
func (w *warmPool) fill(ctx context.Context, machine *Handle) {
	defer close(w.ended)
	for known := false; ; {
		like := w.wanted()
		if !known && like != (likeness{}) {
			known = true
			for range len(w.ready) { // those from before
				_ = w.take().close()
			}
		}
		for len(w.ready) < cap(w.ready) {
			p, err := prepareLike(ctx, machine, like)
			if err != nil && like != (likeness{}) { // the bridge is gone, say
				like = likeness{}
				p, err = prepareLike(ctx, machine, like)
			}
			if err != nil {
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

func (w *warmPool) wanted() likeness {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.like
}

// learn has the next ones made like a network that was made.
func (w *warmPool) learn(like likeness) {
	if w == nil {
		return
	}
	w.mu.Lock()
	first := w.like == likeness{}
	w.like = like
	w.mu.Unlock()
	if first && like != (likeness{}) {
		w.wake()
	}
}

// refill is called when a network was made: not before, as the making of the next
// would take the kernel's lock from it, and not for each, for the same reason.
func (w *warmPool) refill() {
	if w == nil || len(w.ready) > cap(w.ready)/2 {
		return
	}
	w.wake()
}

func (w *warmPool) wake() {
	select {
	case w.low <- struct{}{}:
	default:
	}
}

// prepareLike makes a namespace with a veth.
func prepareLike(ctx context.Context, machine *Handle, like likeness) (*prepared, error) {
	p, err := prepare(ctx)
	if err != nil {
		return nil, err
	}
	p.like = like
	if err = p.addVeth(ctx, machine); err == nil {
		err = p.shape(ctx, machine)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// shape sets the limits and the priority of a pair that nobody uses yet.
func (p *prepared) shape(ctx context.Context, machine *Handle) error {
	for _, end := range []struct {
		h     *Handle
		index int
		limit Limit
	}{{machine, p.machineIndex, p.like.limits.Ingress}, {p.inside, p.insideIndex, p.like.limits.Egress}} {
		if end.limit.IsZero() {
			continue
		}
		if err := setLimit(ctx, end.h, end.index, warmName, p.like.mtu, end.limit, true); err != nil {
			return err
		}
	}
	return setPriority(ctx, machine, p.machineIndex, warmName, netlink.HANDLE_MIN_INGRESS, p.like.limits.Priority, true)
}

// newMTU is the MTU that a veth of the pair has to get, 0 if it has it.
func (p *prepared) newMTU(want int) int {
	if want = cmp.Or(want, defaultMTU); want == cmp.Or(p.like.mtu, defaultMTU) {
		return 0
	}
	return want
}

// addVeth makes a pair of which nobody is the owner yet: it ends with the
// namespace, that is with this process.
func (p *prepared) addVeth(ctx context.Context, machine *Handle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = linkPrefix + "-" + strings.ToLower(rand.Text()[:maxName-len(linkPrefix)-1])
	p.machineMAC = randomMAC()
	attrs.HardwareAddr, attrs.MTU, attrs.MasterIndex = p.machineMAC, p.like.mtu, p.like.index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: warmName, PeerMTU: uint32(p.like.mtu), PeerNamespace: netlink.NsFd(p.ns.FD())}
	index, err := once(ctx, machine, "make", attrs.Name, func(s *netlink.Handle) (int, error) {
		err := s.LinkAdd(veth)
		if err == nil {
			err = setPort(s, veth, p.like, likeness{})
		}
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

func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = portMAC
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
