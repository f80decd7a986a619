// SPDX-License-Identifier: Apache-2.0

package isolation

// Deaf has a host believe that the kernel keeps no exit status of others' children,
// as before Linux 6.15: so that who tells of one is the supervisor.
func Deaf(c *Config) { c.deaf = true }
