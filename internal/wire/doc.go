// SPDX-License-Identifier: Apache-2.0

// Package wire turns plain data into bytes and back, by one walk that does both:
// so what is written is what is read, in the same order, and a value that comes
// back is the one that went, with its strings byte for byte (JSON would mend
// arguments that are no UTF-8) and nil slices told from empty ones.
//
//	func (p *point) walk(c *wire.Codec) {
//		wire.Number(c, &p.X)
//		wire.Text(c, &p.name)
//	}
//
// What is read may be hostile: a codec allocates no more than a small multiple of
// what it was given, and its first error ends it.
//
// Descriptors travel beside the bytes, which have their place among them.
package wire
