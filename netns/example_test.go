// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/caisson-run/caisson/netns"
)

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
