// SPDX-License-Identifier: Apache-2.0

package isolation

import "slices"

// capabilities are the kernel's names in the order of their numbers
// (include/uapi/linux/capability.h).
var capabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
	"CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
	"CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// KnownCapabilities are the kernel's names in the order of their numbers, as of
// Linux 5.9, which added the last one.
func KnownCapabilities() []string { return slices.Clone(capabilities[:]) }

// AllCapabilities, as the only word of Process.Capabilities, keeps what the
// caller has.
const AllCapabilities = "ALL"

// DefaultCapabilities are the fourteen that container runtimes leave to root
// by default.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
		"CAP_AUDIT_WRITE",
	}
}

// defaultCapabilities is the bit set of [DefaultCapabilities].
const defaultCapabilities = 0xa80425fb

// capabilitySet is the bit set of names; nil means the default ones, and all
// bits mean "leave as they are".
func capabilitySet(names []string) (uint64, error) {
	if names == nil {
		return defaultCapabilities, nil
	}
	if len(names) == 1 && names[0] == AllCapabilities {
		return ^uint64(0), nil
	}
	var bits uint64
	for _, n := range names {
		i := slices.Index(capabilities[:], n)
		if i < 0 {
			return 0, &InvalidError{Field: "process.capabilities", Value: clip(n), Reason: "no such capability"}
		}
		bits |= 1 << i
	}
	return bits, nil
}
