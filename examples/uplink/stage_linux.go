// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/examples/internal/traced"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/netns/nft"
)

const scope = "uplink"

// way is how the batch job is treated.
type way string

const (
	alone       way = "alone"
	unprotected way = "unprotected"
	byQueue     way = "queue"
	byRate      way = "rate"
	byClass     way = "class"
	byBoth      way = "class+rate"
)

var ways = []way{alone, unprotected, byQueue, byRate, byClass, byBoth}

// ranked reports whether packets go by class.
func (w way) ranked() bool { return w == byClass || w == byBoth }

// outcome is one phase: latencies in milliseconds, traffic in Mbit/s.
type outcome struct {
	p50, p99, batch, service float64
	answers                  int
}

// stage is the machine, what is outside, and the service on it.
type stage struct {
	o                options
	dir              string
	machine, outside *namespaces.Handle
	firewall         *nft.Firewall
	host             *isolation.Host
	service          *isolation.Sandbox
	sink             net.Listener
	idle             chan net.Conn
}

func open(ctx context.Context, o options) (s *stage, err error) {
	s = &stage{o: o, idle: make(chan net.Conn, 1024)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if s.dir, err = os.MkdirTemp("", "uplink-"); err != nil {
		return s, err
	}
	for _, ns := range []**namespaces.Handle{&s.machine, &s.outside} {
		if *ns, err = namespaces.Create(namespaces.Network); err != nil {
			return s, err
		}
	}
	if err = wire(s.machine, s.outside, o.rate); err != nil {
		return s, err
	}
	path := filepath.Join(s.dir, "machine")
	if err = s.machine.Pin(path); err != nil {
		return s, err
	}
	o.config.NetworkNamespace = path
	// The machine forwards, so the firewall has to set priorities again.
	if s.firewall, err = nft.Open(ctx, nft.Config{Scope: scope, Machine: s.machine}); err != nil {
		return s, err
	}
	o.config.Network = netns.Config{Scope: scope, Pins: filepath.Join(s.dir, "pins"), Firewall: s.firewall}
	o.config.Uplink = isolation.Uplink{Link: linkName}
	if s.host, err = isolation.Open(ctx, o.config); err != nil {
		return s, err
	}
	if err = s.receive(); err != nil {
		return s, err
	}
	s.service, err = s.start(ctx, "service", elastic.LatencyCritical, netns.Bandwidth{}, "10.7.0.2/24", serveCommand)
	return s, err
}

func (s *stage) close(ctx context.Context) error {
	var errs []error
	if s.host != nil {
		for sb := range s.host.Sandboxes(nil) {
			errs = append(errs, sb.Destroy(ctx))
		}
		errs = append(errs, s.host.Remove(ctx), s.host.Close())
	}
	if s.firewall != nil {
		errs = append(errs, s.firewall.Close())
	}
	if s.sink != nil {
		errs = append(errs, s.sink.Close())
	}
	s.hangUp()
	if s.machine != nil {
		_ = namespaces.Unpin(filepath.Join(s.dir, "machine")) // there is none if it was not made
		errs = append(errs, s.machine.Close())
	}
	if s.outside != nil {
		errs = append(errs, s.outside.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// receive takes in, outside, what the batch job sends.
func (s *stage) receive() error {
	err := namespaces.Do(func() (err error) {
		s.sink, err = net.Listen("tcp", sinkAddr)
		return err
	}, s.outside)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := s.sink.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return nil
}

// start starts a sandbox that runs one of this program's commands, and waits until it
// is ready.
func (s *stage) start(ctx context.Context, id string, class elastic.Class, b netns.Bandwidth, addr string, args ...string) (*isolation.Sandbox, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	sb, err := s.host.Create(ctx, isolation.Spec{
		ID: id, Class: class, Process: isolation.Process{Args: append([]string{self}, args...)},
		Network: netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{
			Kind: netns.Veth, Bridge: bridgeName, Bandwidth: b,
			Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}, Gateways: []netip.Addr{netip.MustParsePrefix(gateway).Addr()},
		}}},
	})
	if err != nil {
		return nil, err
	}
	if args[0] != serveCommand {
		return sb, sb.Start(ctx, nil, nil, os.Stderr)
	}
	out, in, err := os.Pipe()
	if err != nil {
		return sb, err
	}
	defer out.Close()
	err = sb.Start(ctx, nil, in, os.Stderr)
	if err = errors.Join(err, in.Close()); err != nil {
		return sb, err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	return sb, err
}

// measure plays one way.
func (s *stage) measure(ctx context.Context, w way) (r outcome, err error) {
	s.hangUp()
	own, ranks := netns.DefaultPriority(), netns.Bandwidth{Priority: netns.DefaultPriority()}
	if n, ok := elastic.LatencyCritical.NetworkPriority(); ok && w.ranked() {
		own, ranks = netns.PriorityOf(n), netns.Bandwidth{} // and the job's is that of its class
	}
	if err := s.service.UpdateNetwork(ctx, "", netns.Bandwidth{Priority: own}); err != nil {
		return r, err
	}
	job := (*isolation.Sandbox)(nil)
	if w != alone {
		class := elastic.BestEffort
		if w == unprotected {
			class = elastic.Standard
		}
		if job, err = s.start(ctx, "job", class, ranks, "10.7.0.3/24", sendCommand, sinkAddr); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, job.Destroy(context.WithoutCancel(ctx))) }()
	}
	if w == byQueue || w == byRate || w == byBoth {
		stop, err := s.guard(ctx, w)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if _, err := s.ask(ctx, max(s.o.phase/2, 3*time.Second)); err != nil { // until it has settled
		return r, err
	}
	sent := func(sb *isolation.Sandbox) (uint64, error) {
		var st netns.InterfaceStats
		if sb == nil {
			return 0, nil
		}
		err := sb.StatNetwork("", &st)
		return st.Link.TxBytes, err
	}
	batch, err := sent(job)
	service, serr := sent(s.service)
	if err = errors.Join(err, serr); err != nil {
		return r, err
	}
	begun := time.Now()
	all, err := s.ask(ctx, s.o.phase)
	if err != nil {
		return r, err
	}
	seconds := time.Since(begun).Seconds()
	after, err := sent(job)
	now, serr := sent(s.service)
	r = outcome{
		p50: quantile(all, 0.5), p99: quantile(all, 0.99), answers: len(all),
		batch: float64(after-batch) * 8 / 1e6 / seconds, service: float64(now-service) * 8 / 1e6 / seconds,
	}
	return r, errors.Join(err, serr)
}

// guard runs the controller until stop is called.
func (s *stage) guard(ctx context.Context, w way) (stop func() error, err error) {
	p := &elastic.NetworkGuard{}
	if w != byQueue {
		p.Egress = float64(s.o.rate)
	}
	name := ""
	if s.o.trace != "" {
		name = s.o.trace + "." + string(w)
	}
	return traced.Start(ctx, s.host, elastic.Config{Policies: []elastic.Policy{p}}, name)
}

// pause is the time from one request to the next, and patience how long one may take.
const (
	pause    = 5 * time.Millisecond
	patience = 10 * time.Second
)

// ask sends requests for a while, each when it is due, and returns their latencies.
func (s *stage) ask(ctx context.Context, during time.Duration) (all []time.Duration, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for begun, n := time.Now(), 0; ; n++ {
		due := begun.Add(time.Duration(n) * pause)
		if due.Sub(begun) >= during || ctx.Err() != nil {
			break
		}
		for time.Now().Before(due) {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				break
			}
		}
		wg.Go(func() {
			rerr := s.request()
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			if all = append(all, took); rerr != nil && err == nil {
				err = rerr
			}
		})
	}
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return all, err
}

// request asks the service once, over a connection that is idle or a new one.
func (s *stage) request() error {
	var c net.Conn
	select {
	case c = <-s.idle:
	default:
		err := namespaces.Do(func() (err error) {
			c, err = net.DialTimeout("tcp", "10.7.0.2:80", patience)
			return err
		}, s.outside)
		if err != nil {
			return err
		}
	}
	answer := make([]byte, answerSize)
	err := c.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = c.Write(answer[:1])
	}
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("asking the service: %w", err), c.Close())
	}
	select {
	case s.idle <- c:
		return nil
	default:
		return c.Close()
	}
}

// hangUp closes the connections that are idle: what TCP has learned on them is of the
// way before.
func (s *stage) hangUp() {
	for {
		select {
		case c := <-s.idle:
			_ = c.Close()
		default:
			return
		}
	}
}

// quantile sorts, and returns milliseconds.
func quantile(all []time.Duration, q float64) float64 {
	slices.Sort(all)
	return float64(all[min(len(all)-1, int(q*float64(len(all))))]) / 1e6
}
