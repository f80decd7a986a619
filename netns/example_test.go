// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// A network with an address of a pool, limited to 100 Mbit/s in each direction,
// and to 20 while it runs.
func ExampleNetwork_Create() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	network, err := netns.OpenNetwork(ctx, netns.Config{
		Scope: "example", State: "/run/example/net",
		Pools: []netns.PoolConfig{{Name: "lan", Subnet: netip.MustParsePrefix("10.77.0.0/16")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer network.Close()

	limit := netns.BitsPerSecond(100e6)
	web, err := network.Create(ctx, "web-1", netns.Spec{
		Mode: netns.ModeNew,
		Interfaces: []netns.Interface{{
			Kind: netns.Veth, Pools: []string{"lan"}, // no bridge: routed
			Bandwidth: netns.Bandwidth{Egress: limit, Ingress: limit},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(web.Addrs(), web.Namespace())
	if err := web.SetBandwidth(ctx, "eth0", netns.Bandwidth{Egress: netns.BitsPerSecond(20e6)}); err != nil {
		fmt.Println(err)
	}

	_ = web.Close()
	if err := network.Destroy(ctx, "web-1"); err != nil {
		fmt.Println(err)
	}
}

// A batch job whose packets let everybody else's go first, where a queue of the machine
// looks at that, and one whose packets are in a class of such a queue.
func ExamplePriority() {
	job := netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{
		Kind: netns.Veth, Bridge: "br0", Pools: []string{"lan"},
		Bandwidth: netns.Bandwidth{Priority: netns.PriorityOf(2)},
	}}}
	fmt.Println(job.Validate(), job.Interfaces[0].Bandwidth.Priority)
	fmt.Println(netns.PriorityClass(1, 0x20))
	// Output:
	// <nil> 2
	// 1:20
}

// What an earlier process of the same agent left is removed, but for the
// sandboxes that still run.
func ExampleNetwork_Sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	network, err := netns.OpenNetwork(ctx, netns.Config{Scope: "example", State: "/run/example/net"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer network.Close()
	running := map[string]bool{"web-1": true}
	removed, err := network.Sweep(ctx, func(owner string) bool { return running[owner] })
	fmt.Println(removed, err)
}

// Three quarters of a link are one sandbox's for sure, a quarter another's; each
// borrows what the other leaves.
func ExampleShaper_Set() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	own, err := namespaces.Current(namespaces.Network)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer own.Close()
	h, err := netns.Open(own)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	link, err := netns.OpenShaper(ctx, h, netns.ShaperConfig{Link: "example0", Rate: netns.BitsPerSecond(1e9)})
	if err != nil {
		fmt.Println(err) // shape example0 in net:[4026531840]: no such link
		return
	}
	for id, share := range map[uint16]netns.Class{
		2: {ID: 2, Rate: netns.BitsPerSecond(750e6), Priority: 0, Match: []netip.Prefix{netip.MustParsePrefix("10.77.0.2/32")}},
		3: {ID: 3, Rate: netns.BitsPerSecond(250e6), Priority: 3, Match: []netip.Prefix{netip.MustParsePrefix("10.77.0.3/32")}},
	} {
		if err := link.Set(ctx, share); err != nil {
			fmt.Println(id, err)
		}
	}
}

// How much the limit holds a sandbox up.
func ExampleQueue_Since() {
	earlier := netns.Queue{Bytes: 1_000_000, Packets: 1000}
	now := netns.Queue{Bytes: 13_500_000, Packets: 9910, Drops: 90, Backlog: 125_000}
	c := now.Since(earlier, time.Second)
	fmt.Printf("%.0f Mbit/s, %v behind, %.0f%% dropped\n", c.Rate/1e6, c.Delay, c.Dropped*100)
	// Output: 100 Mbit/s, 10ms behind, 1% dropped
}

// What a sandbox sent and received, read as often as wanted.
func ExampleHandle_Stats() {
	h, err := netns.OpenPID(4711)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Println("the process has ended")
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	var st netns.LinkStats
	if err := h.Stats("eth0", &st); err != nil {
		fmt.Println(err) // count eth0 in net:[4026532201]: no such link
		return
	}
	fmt.Println(st.RxBytes, st.TxBytes, st.RxDropped)
}

// The loopback device of a network namespace that something else made.
func ExampleHandle_SetUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	h, err := netns.OpenPID(4711)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	lo, err := h.Link(ctx, netns.Loopback)
	if err == nil && !lo.Up {
		err = h.SetUp(ctx, netns.Loopback)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	links, err := h.Links(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range links {
		fmt.Println(l.Index, l.Name, l.Kind, l.Up, l.Addrs)
	}
}
