// SPDX-License-Identifier: Apache-2.0

package netns

import "path/filepath"

// Path is the file on which the sandbox's network namespace is mounted, for programs
// that are told of a namespace so; empty for the machine's own. It is the same for as
// long as there is the network, and who owns a joined one can take it away.
func (a *Attachment) Path() string {
	owner := a.owner
	switch join := a.spec.Join; {
	case a.spec.Mode == ModeHost:
		return ""
	case filepath.IsAbs(join):
		return join
	case a.spec.Mode == ModeJoin:
		owner = join
	}
	return filepath.Join(a.network.pins.Path(), a.network.pinName(owner))
}
