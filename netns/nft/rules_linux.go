// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// newSet describes one of the table's sets.
func newSet(t *nftables.Table, id setID) *nftables.Set {
	s := &nftables.Set{Table: t, Name: setNames[id], KeyType: nftables.TypeIPAddr}
	v6 := id == ports6 || id == at6 || id == addrs6 || id == isolated6
	if v6 {
		s.KeyType = nftables.TypeIP6Addr
	}
	address := s.KeyType
	switch id {
	case ports4, ports6:
		s.IsMap, s.Concatenation = true, true
		s.KeyType = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
		s.DataType = nftables.MustConcatSetType(address, nftables.TypeInetService)
	case at4, at6:
		s.IsMap, s.Concatenation = true, true
		s.KeyType = nftables.MustConcatSetType(address, nftables.TypeInetProto, nftables.TypeInetService)
		s.DataType = nftables.MustConcatSetType(address, nftables.TypeInetService)
	case priority4:
		s.IsMap, s.DataType = true, nftables.TypeClassID
	default:
	}
	return s
}

// build makes the table, its sets and its chains, where they are missing, and the
// rules anew: one transaction.
func (f *Firewall) build(masquerade bool) error {
	f.conn.AddTable(f.table)
	for _, s := range f.sets {
		if err := f.conn.AddSet(s, nil); err != nil {
			return err
		}
	}
	accept := nftables.ChainPolicyAccept
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		c := f.conn.AddChain(&nftables.Chain{Name: name, Table: f.table, Type: kind, Hooknum: hook, Priority: priority, Policy: &accept})
		f.conn.FlushChain(c)
		return c
	}
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	rule := func(c *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: all})
	}
	for _, fam := range families {
		for _, c := range []*nftables.Chain{pre, out} {
			var elsewhere []expr.Any
			if c == out {
				elsewhere = fam.notLoopback()
			}
			rule(c, fam.is(), toTheMachine(), elsewhere, f.publish(fam, f.sets[at4+fam.offset], true))
			rule(c, fam.is(), toTheMachine(), elsewhere, f.publish(fam, f.sets[ports4+fam.offset], false))
		}
		addrs := f.sets[addrs4+fam.offset]
		// A sandbox that comes to another one, or to itself, over a published port
		// must get the answers from where it sent to.
		rule(post, fam.is(), fam.source(addrs, false), fam.destination(addrs, false), natted(true), []expr.Any{&expr.Masq{}})
		if masquerade {
			rule(post, fam.is(), fam.source(addrs, false), fam.destination(addrs, true), []expr.Any{&expr.Masq{}})
		}
		apart := f.sets[isolated4+fam.offset]
		rule(forward, fam.is(), fam.source(apart, false), fam.destination(apart, false), natted(false),
			[]expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}})
	}
	// By now the kernel has taken the priority from the packet's TOS; for IPv6 it has
	// left it as it was (ip_forward and ip6_forward).
	rule(forward, families[0].is(), families[0].prioritize(f.sets[priority4]))
	return f.conn.Flush()
}

// family is what differs between IPv4 and IPv6.
type family struct {
	offset       setID // of the family's set behind that of IPv4
	number       byte  // NFPROTO_IPV4, NFPROTO_IPV6
	size         uint32
	from, to     uint32 // where the addresses are in the header
	proto        uint32 // the register of "address . protocol . port" behind the address
	loopback     []byte
	loopbackMask []byte
}

// Registers of four bytes; the first of them is also called 1 (NFT_REG_1).
const (
	reg     = 1
	reg32_0 = 8 // NFT_REG32_00
)

var families = []family{
	{offset: 0, number: 2, size: 4, from: 12, to: 16, proto: reg32_0 + 1, loopback: []byte{127, 0, 0, 0}, loopbackMask: []byte{255, 0, 0, 0}},
	{offset: 1, number: 10, size: 16, from: 8, to: 24, proto: reg32_0 + 4,
		loopback: append(make([]byte, 15), 1), loopbackMask: []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")},
}

func (f family) is() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{f.number}},
	}
}

func (f family) address(at uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: f.size}
}

func (f family) source(set *nftables.Set, not bool) []expr.Any {
	return []expr.Any{f.address(f.from), &expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID, Invert: not}}
}

func (f family) destination(set *nftables.Set, not bool) []expr.Any {
	return []expr.Any{f.address(f.to), &expr.Lookup{SourceRegister: reg, SetName: set.Name, SetID: set.ID, Invert: not}}
}

// prioritize gives packets the priority that goes with their source.
func (f family) prioritize(m *nftables.Set) []expr.Any {
	return []expr.Any{
		f.address(f.from),
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg},
	}
}

func (f family) notLoopback() []expr.Any {
	return []expr.Any{
		f.address(f.to),
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: f.size, Mask: f.loopbackMask, Xor: make([]byte, f.size)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: f.loopback},
	}
}

// toTheMachine matches what is for an address of the machine.
func toTheMachine() []expr.Any {
	const local = 2 // RTN_LOCAL
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.NativeEndian.PutUint32(local)},
	}
}

// publish looks the port up, with the address in front of it if the map has
// that, and sends the connection to where it leads.
func (f *Firewall) publish(fam family, ports *nftables.Set, withAddress bool) []expr.Any {
	var list []expr.Any
	at := uint32(reg32_0)
	if withAddress {
		list = append(list, fam.address(fam.to))
		at = fam.proto
	}
	return append(list,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: at},
		&expr.Payload{DestRegister: at + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: ports.Name, SetID: ports.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(fam.number), RegAddrMin: reg, RegProtoMin: fam.proto, Specified: true},
	)
}

// natted matches connections that came over a published port, or all others.
func natted(yes bool) []expr.Any {
	const dnat = 1 << 5 // IPS_DST_NAT
	op := expr.CmpOpEq
	if yes {
		op = expr.CmpOpNeq
	}
	none := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(dnat), Xor: none},
		&expr.Cmp{Op: op, Register: reg, Data: none},
	}
}
