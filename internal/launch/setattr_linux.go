// SPDX-License-Identifier: Apache-2.0

package launch

// HasMountSetattr reports whether this process may change the attributes of a mount and
// of those below it at once: mount_setattr(2), Linux 5.12.
func HasMountSetattr() bool { return hasSetattr() }
