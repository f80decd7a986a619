// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"os"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/namespaces"
)

// An Isolator owns one part of a sandbox in the native driver: its cgroup, its
// namespaces, its process, and what an embedder adds through [Config].
//
// Prepare runs in order, Cleanup in reverse order. If a Prepare fails, the
// Cleanup of every isolator up to and including it runs.
type Isolator interface {
	// Name is what errors call it: "cgroup".
	Name() string

	// Prepare makes what must exist before the process does.
	Prepare(ctx context.Context, c *Container) error

	// Cleanup takes apart what Prepare made, also half-made or made by an
	// earlier process. It may be repeated.
	Cleanup(ctx context.Context, c *Container) error
}

// What an isolator does besides is found by type assertion.
type (
	// LaunchIsolator has a say in how the process is started. It only fills
	// in l; nothing is touched yet.
	LaunchIsolator interface {
		Launch(c *Container, l *Launch) error
	}

	// StartedIsolator acts once the process runs. If it fails, the process
	// is killed and Start fails.
	StartedIsolator interface {
		Started(ctx context.Context, c *Container, pid int) error
	}

	// UpdateIsolator changes its part of a running sandbox. If a later
	// isolator fails, it is called again with the values from before.
	UpdateIsolator interface {
		Update(ctx context.Context, c *Container, r cgroups.Resources) error
	}

	// RecoverIsolator finds its part again in a new process, by c.Spec and
	// by the kernel's own facts. A part that vanished is an error that
	// matches [ErrNotFound].
	RecoverIsolator interface {
		Recover(ctx context.Context, c *Container) error
	}

	// ReleaseIsolator frees what it holds in this process; the sandbox lives
	// on.
	ReleaseIsolator interface {
		Release(c *Container) error
	}
)

// Launch is how a process is to be started: plain data that the isolators fill
// in one after the other.
type Launch struct {
	Path string   // the program, an absolute path or one relative to Dir
	Args []string // Args[0] is the program's own name
	Env  []string
	Dir  string

	New      namespaces.Kinds // namespaces of its own
	UIDMap   namespaces.IDMaps
	GIDMap   namespaces.IDMaps
	Hostname string // set if New has UTS
	Loopback bool   // bring lo up; New must have Network

	Monotonic, Boottime time.Duration // offsets of clocks; New must have Time

	Join []*namespaces.Handle // existing namespaces, which must stay open until the process runs

	Unmounts []string // taken away, with all below, after the mount namespace turned private
	Mounts   []Mount  // made in order after that

	spec       *Spec                                // what Security and Process say besides
	root       *launch.Root                         // takes the place of Mounts
	rootMounts func([]Mount) ([]launch.Item, error) // all that is in it, Mounts behind what is in every root
	stub       *launch.Stub
	filters    *filters
	confined   bool             // the files are the sandbox's own
	entered    *sys.FD          // the first process of the running sandbox that it enters, or nil
	entering   namespaces.Kinds // which of that one's namespaces
	slave      bool             // the machine's later mounts arrive
	from       int              // the supervisor that it is a child of, or 0

	announce   func(pid, pidfd int) error // see launch.CompileAnnounced
	keepGroups bool                       // nobody may set them where it is entered

	User          User
	Capabilities  uint64 // bit set; all bits leave them as they are
	NewPrivileges bool
	Rlimits       []Rlimit
	Terminal      bool // Files[0] becomes the controlling terminal

	Files []*os.File // descriptors 0, 1, 2 ...; nil is /dev/null

	// UnifiedFD is the cgroup2 directory to be born in, and TaskFDs the open
	// v1 "tasks" files to join; both must stay open until the process runs.
	UnifiedFD int // -1: none
	TaskFDs   []int
}

// Mount is one mount(2) in the sandbox's mount namespace.
type Mount struct {
	Source, Target, Type string
	Flags                uintptr // of mount(2), MountNoSUID and so on
	Data                 string
}

// Flags of a [Mount], as in mount(2), where the kernel's ABI has them.
const (
	MountReadOnly uintptr = 1 << 0
	MountNoSUID   uintptr = 1 << 1
	MountNoDev    uintptr = 1 << 2
	MountNoExec   uintptr = 1 << 3
	MountBind     uintptr = 1 << 12
	MountRec      uintptr = 1 << 14
)
