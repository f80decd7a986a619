// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"

	"github.com/mdlayher/netlink"
)

// The kernel's numbers for asking which transaction was the last, of any table
// (include/uapi/linux/netfilter/nf_tables.h).
const (
	netfilter    = 12         // NETLINK_NETFILTER
	getGen       = 10<<8 | 16 // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
	genID        = 1          // NFTA_GEN_ID
	nfgenmsgSize = 4
)

var errGeneration = errors.New("the kernel does not tell its generation")

// generation is the number of the last transaction.
func (f *Firewall) generation() (uint32, error) {
	answers, err := f.asks.Execute(netlink.Message{
		Header: netlink.Header{Type: getGen, Flags: netlink.Request},
		Data:   make([]byte, nfgenmsgSize),
	})
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if gen, ok := parseGeneration(a.Data); ok {
			return gen, nil
		}
	}
	return 0, errGeneration
}

// parseGeneration reads the body of an NFT_MSG_NEWGEN.
func parseGeneration(b []byte) (gen uint32, ok bool) {
	if len(b) < nfgenmsgSize {
		return 0, false
	}
	d, err := netlink.NewAttributeDecoder(b[nfgenmsgSize:])
	if err != nil {
		return 0, false
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		if d.Type() == genID {
			gen, ok = d.Uint32(), true
		}
	}
	if d.Err() != nil {
		return 0, false
	}
	return gen, ok
}
