// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net/netip"
	"strconv"
)

// Class is a share of a link that many sandboxes use.
type Class struct {
	// ID tells the class from the others of its link: 2 to 65533.
	ID uint16

	Rate Limit // what it has for sure; its burst is that of the class
	Ceil Limit // what it may borrow up to, while others leave it; unset or unlimited is the link's rate

	// Priority is who borrows first: 0 to 7, 0 before all others.
	Priority int

	// Match are the sandboxes' addresses. What is sent by them is in the class, or
	// what is sent to them, as the shaper is told. At most 64.
	Match []netip.Prefix
}

// Direction says which addresses of a packet a [Shaper] looks at.
type Direction uint8

// The directions.
const (
	FromSandboxes Direction = iota // source addresses, on the link to the outside
	ToSandboxes                    // destination addresses, on the bridge
)

// ShaperConfig describes a [Shaper].
type ShaperConfig struct {
	Link      string    // of the machine
	Rate      Limit     // of the whole link
	Direction Direction // which addresses to look at
}

// Validate reports everything that is wrong with c. The error matches
// [ErrInvalid].
func (c ShaperConfig) Validate() error {
	v := &validator{}
	v.add(checkName(c.Link))
	v.add(c.Rate.Validate())
	if _, ok := c.Rate.Rate(); !ok {
		v.bad("link rate", c.Rate.String(), "a link has one")
	}
	if c.Direction > ToSandboxes {
		v.bad("direction", strconv.Itoa(int(c.Direction)), "no such direction")
	}
	return errors.Join(v.errs...)
}

// Validate reports everything that is wrong with c. The error matches
// [ErrInvalid].
func (c Class) Validate() error {
	v := &validator{}
	if c.ID < firstClass || c.ID > lastClass {
		v.bad("class", strconv.Itoa(int(c.ID)), "not 2 to 65533")
	}
	v.add(c.Rate.Validate())
	v.add(c.Ceil.Validate())
	rate, ok := c.Rate.Rate()
	if !ok {
		v.bad("class rate", c.Rate.String(), "a class has one")
	}
	if ceil, ok := c.Ceil.Rate(); ok && ceil < rate {
		v.bad("class ceiling", c.Ceil.String(), "below its rate")
	}
	if c.Priority < 0 || c.Priority > 7 {
		v.bad("class priority", strconv.Itoa(c.Priority), "not 0 to 7")
	}
	v.most("class addresses", len(c.Match))
	for _, p := range c.Match {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			v.bad("class address", p.String(), "not a network like 10.0.0.2/32")
		}
	}
	return errors.Join(v.errs...)
}

const (
	rootClass  = 1 // the whole link, of which the others are parts
	firstClass = 2
	lastClass  = 65533
	restClass  = 65534 // of everything that no class matches
)
