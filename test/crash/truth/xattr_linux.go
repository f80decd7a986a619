// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"strings"
	"syscall"
)

// attributes reads the extended attributes of a directory that this process may
// read; where there are none, there are none.
func (g *Group) attributes(dir string) {
	names := make([]byte, 64<<10)
	n, err := syscall.Listxattr(dir, names)
	if err != nil {
		return
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		if n, err := syscall.Getxattr(dir, name, value); err == nil {
			g.Labels[name] = string(value[:n])
		}
	}
}
