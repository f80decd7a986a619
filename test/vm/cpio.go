// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
)

// cpio builds an initramfs in the "newc" format. Directories come before what
// is in them.
//
// https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
type cpio struct {
	buf   bytes.Buffer
	inode int
}

const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

func (c *cpio) dir(name string) { c.add(name, typeDir|0o755, nil) }

func (c *cpio) file(name string, data []byte) { c.add(name, typeFile|0o755, data) }

func (c *cpio) link(name, target string) { c.add(name, typeLink|0o777, []byte(target)) }

func (c *cpio) add(name string, mode int, data []byte) {
	c.inode++
	fields := []int{c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	c.buf.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&c.buf, "%08X", f)
	}
	c.buf.WriteString(name + "\x00")
	c.pad()
	c.buf.Write(data)
	c.pad()
}

func (c *cpio) pad() {
	for c.buf.Len()%4 != 0 {
		c.buf.WriteByte(0)
	}
}

// bytes ends the archive.
func (c *cpio) bytes() []byte {
	c.add("TRAILER!!!", 0, nil)
	return c.buf.Bytes()
}
