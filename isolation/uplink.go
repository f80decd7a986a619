// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/netns"
)

// Uplink is a link of the machine that its sandboxes share to the outside. It is
// measured, for controllers, and not touched.
type Uplink struct {
	// Link is its name, in the machine's network namespace; empty is none.
	Link string

	// Sends and Receives are what it can carry, in bits a second; 0 is not known, and
	// then only what waits and is dropped in its queue tells that it is full.
	Sends, Receives uint64
}

// Uplink measures the link of [Config].Uplink; see [elastic.Linked]. It matches
// [ErrNotSupported] if there is none.
func (h *Host) Uplink(u *elastic.UplinkStats) error {
	cfg := h.cfg.Uplink
	if cfg.Link == "" {
		return &UnsupportedError{Feature: "uplink", Reason: "the host's Config names none"}
	}
	net, err := h.native.network.open(context.Background())
	if err != nil {
		return err
	}
	var st netns.LinkStats
	var q netns.Queue
	if err := errors.Join(net.Machine().Stats(cfg.Link, &st), net.Machine().Queue(cfg.Link, &q)); err != nil {
		return err
	}
	*u = elastic.UplinkStats{
		Link: cfg.Link, Sends: float64(cfg.Sends), Receives: float64(cfg.Receives),
		Egress:  queueStats(st.TxBytes, st.TxPackets, q),
		Ingress: elastic.QueueStats{Bytes: st.RxBytes, Packets: st.RxPackets},
	}
	return nil
}
