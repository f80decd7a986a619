// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"context"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/netns/nft"
)

// A sandbox on the administrator's bridge, with a published port.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	firewall, err := nft.Open(ctx, nft.Config{Scope: "example", Masquerade: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer firewall.Close()
	network, err := netns.OpenNetwork(ctx, netns.Config{Scope: "example", State: "/run/example/net", Firewall: firewall})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer network.Close()

	port, err := netns.ParsePort("8080:80/tcp")
	if err != nil {
		fmt.Println(err)
		return
	}
	web, err := network.Create(ctx, "web-1", netns.Spec{
		Mode:       netns.ModeNew,
		Interfaces: []netns.Interface{{Kind: netns.Veth, Bridge: "br0"}},
		Ports:      []netns.Port{port},
		Isolated:   true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()
}
