// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrMalformed is matched by errors about bytes that no Codec has written.
var ErrMalformed = errors.New("malformed message")

// Codec is a walk under way.
type Codec struct {
	data    []byte
	fds     []int
	reading bool
	err     error
}

// Writer is a walk that writes.
func Writer() *Codec { return &Codec{data: make([]byte, 0, 1024)} }

// Reader is a walk that reads data, which came with these descriptors. They stay
// the caller's.
func Reader(data []byte, fds []int) *Codec { return &Codec{data: data, fds: fds, reading: true} }

// Reading reports which of the two it is.
func (c *Codec) Reading() bool { return c.reading }

// Written is what a walk has written, with the descriptors that go along.
func (c *Codec) Written() (data []byte, fds []int, err error) { return c.data, c.fds, c.err }

// Ended is the first error of a walk that reads. What it has left unread is one.
func (c *Codec) Ended() error {
	if c.err == nil && len(c.data) > 0 {
		c.Fail("%d bytes too many", len(c.data))
	}
	return c.err
}

// Fail ends the walk. The first error counts, and matches [ErrMalformed].
func (c *Codec) Fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	c.data = nil
}

type integer interface {
	~int | ~int32 | ~int64 | ~uint8 | ~uint32 | ~uint64 | ~uintptr
}

// Number walks a number.
func Number[T integer](c *Codec, p *T) {
	if !c.reading {
		c.data = binary.AppendUvarint(c.data, uint64(*p))
		return
	}
	v, n := binary.Uvarint(c.data)
	if n <= 0 || uint64(T(v)) != v {
		c.Fail("no number of this size")
		*p = 0
		return
	}
	*p, c.data = T(v), c.data[n:]
}

// Truth walks a bool.
func Truth(c *Codec, p *bool) {
	var n uint8
	if *p {
		n = 1
	}
	Number(c, &n)
	if n > 1 {
		c.Fail("%d is no truth value", n)
	}
	*p = n == 1
}

// Text walks a string or bytes that are never nil.
func Text[T ~string | ~[]byte](c *Codec, p *T) {
	n := len(*p)
	Number(c, &n)
	if !c.reading {
		c.data = append(c.data, *p...)
		return
	}
	if n < 0 || n > len(c.data) {
		c.Fail("a text of %d bytes where %d are left", n, len(c.data))
		n = 0
	}
	*p, c.data = T(slices.Clone(c.data[:n])), c.data[n:]
}

// List walks a slice, nil or not.
func List[T any](c *Codec, p *[]T, each func(c *Codec, item *T)) {
	n := 0
	if *p != nil {
		n = len(*p) + 1
	}
	Number(c, &n)
	if !c.reading {
		for i := range *p {
			each(c, &(*p)[i])
		}
		return
	}
	if *p = nil; n < 0 || n-1 > len(c.data) { // each item takes a byte at least
		c.Fail("a list of %d items where %d bytes are left", n, len(c.data))
		return
	}
	if n == 0 {
		return
	}
	*p = []T{}
	for range n - 1 {
		var item T
		if each(c, &item); c.err != nil {
			*p = nil
			return
		}
		*p = append(*p, item)
	}
}

// Texts walks a slice of strings.
func Texts(c *Codec, p *[]string) { List(c, p, Text[string]) }

// Maybe walks a pointer, nil or not.
func Maybe[T any](c *Codec, p **T, walk func(c *Codec, v *T)) {
	there := *p != nil
	Truth(c, &there)
	if c.reading {
		if *p = nil; !there || c.err != nil {
			return
		}
		*p = new(T)
	}
	if there {
		walk(c, *p)
	}
}

// FD walks a descriptor; a negative one is -1. The same one twice travels once.
func FD(c *Codec, p *int) {
	at := 0
	if !c.reading && *p >= 0 {
		if at = slices.Index(c.fds, *p) + 1; at == 0 {
			c.fds = append(c.fds, *p)
			at = len(c.fds)
		}
	}
	Number(c, &at)
	if !c.reading {
		return
	}
	if *p = -1; at < 0 || at > len(c.fds) {
		c.Fail("descriptor %d of %d", at, len(c.fds))
	} else if at > 0 {
		*p = c.fds[at-1]
	}
}
