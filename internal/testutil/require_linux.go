// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Numbers of capabilities(7).
const (
	capNetAdmin    = 12
	capSysAdmin    = 21
	capSysResource = 24
)

// unmet returns nil if the requirement holds, and otherwise why it does not.
func unmet(r Requirement) error {
	switch r {
	case Linux:
		return nil
	case Root:
		if os.Geteuid() != 0 {
			return fmt.Errorf("uid is %d", os.Geteuid())
		}
		return capable(capSysAdmin, "CAP_SYS_ADMIN")
	case Unprivileged:
		if os.Geteuid() == 0 {
			return errors.New("uid is 0")
		}
		return nil
	case SysResource:
		return capable(capSysResource, "CAP_SYS_RESOURCE")
	case NetAdmin:
		return capable(capNetAdmin, "CAP_NET_ADMIN")
	case PSI:
		// Opened and read: with psi=0 the file is there and read gives EOPNOTSUPP.
		_, err := os.ReadFile("/proc/pressure/memory")
		return err
	case SocketGroups:
		return socketGroups()
	case Systemd:
		_, err := os.Stat("/run/systemd/system")
		if err == nil && !Emulated() {
			err = errors.New("its units are left alone outside of the kernel matrix")
		}
		return err
	case UserNamespaces:
		return userNamespaces()
	case Swap:
		b, err := os.ReadFile("/proc/swaps")
		if err == nil && strings.Count(string(b), "\n") < 2 {
			err = errors.New("/proc/swaps is empty")
		}
		return err
	case BlockDevice:
		queues, _ := filepath.Glob("/sys/block/*/queue")
		queues = slices.DeleteFunc(queues, func(p string) bool {
			return strings.HasPrefix(p, "/sys/block/loop") || strings.HasPrefix(p, "/sys/block/ram")
		})
		if len(queues) == 0 {
			return errors.New("/sys/block has no disk")
		}
		return nil
	case ScratchDevice:
		return envPath("CAISSON_BLOCKDEV")
	case Delegation:
		return envPath("CAISSON_DELEGATED")
	case EachKernel:
		if Emulated() && !promised(r) {
			return errors.New("the cgroup mode makes no difference, and one environment of each kernel is enough")
		}
		return nil
	case Real:
		if Emulated() {
			return errors.New("it is tested where it takes less long")
		}
		return nil
	case Matrix:
		if !Emulated() {
			return errors.New("CAISSON_VM is not set")
		}
		return nil
	case EndToEnd:
		if os.Getenv("CAISSON_E2E") == "" {
			return errors.New("CAISSON_E2E is not set: make e2e does that")
		}
		return nil
	default:
		return unmetCgroup(r)
	}
}

func socketGroups() error {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &major, &minor); err != nil {
		return err
	}
	if major > 5 || major == 5 && minor >= 15 {
		return nil
	}
	mounts, err := CgroupMounts()
	for _, m := range mounts {
		if slices.Contains(m.Controllers, "net_cls") || slices.Contains(m.Controllers, "net_prio") {
			return errors.New("somebody may have used net_cls or net_prio")
		}
	}
	return err
}

func unmetCgroup(r Requirement) error {
	version, controller, _ := strings.Cut(string(r), ".")
	mounts, err := CgroupMounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		switch {
		case m.V2 && version == string(UnifiedTree), !m.V2 && version == string(LegacyTree):
			if controller == "" && (m.V2 || len(m.Controllers) > 0) || slices.Contains(m.Controllers, controller) {
				return nil
			}
		case version != string(UnifiedTree) && version != string(LegacyTree):
			return fmt.Errorf("nothing is known about %q", string(r))
		}
	}
	return fmt.Errorf("no such %s hierarchy is mounted", version)
}

func capable(bit uint, name string) error {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "\nCapEff:")
	text, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
	if err != nil {
		return fmt.Errorf("effective capabilities: %w", err)
	}
	if set>>bit&1 == 0 {
		return fmt.Errorf("%s is not effective", name)
	}
	return nil
}

// userNamespaces goes by the switches that distributions have. The last two do
// not concern root.
func userNamespaces() error {
	for path, off := range map[string]string{
		"/proc/sys/user/max_user_namespaces":                     "0",
		"/proc/sys/kernel/unprivileged_userns_clone":             "0",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
	} {
		if os.Geteuid() == 0 && strings.HasPrefix(path, "/proc/sys/kernel/") {
			continue
		}
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == off {
			return fmt.Errorf("%s is %s", path, off)
		}
	}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return err
	}
	return nil
}

func envPath(name string) error {
	p := os.Getenv(name)
	if p == "" {
		return fmt.Errorf("%s is not set", name)
	}
	_, err := os.Stat(p)
	return err
}
