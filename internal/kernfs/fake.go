// SPDX-License-Identifier: Apache-2.0

package kernfs

import "context"

// A FakeDir is a directory that no kernel has. A [Dir] over it, made by [Fake],
// behaves like one over a descriptor, so that whatever is built on this package
// runs without a kernel. Names that it is given are checked; errors are bare
// errnos, which the Dir completes.
type FakeDir interface {
	ID() ID
	Version() int // of cgroups: 1 or 2
	Gone() bool
	Open(name string, flag int) (FakeFile, error)
	OpenDir(name string) (FakeDir, error)
	Mkdir(name string) error
	Rmdir(name string) error
	Has(name string) (bool, error)
	Dirs() []string // sorted
	SetXattr(name, value string) error
	RemoveXattr(name string) error
	Xattrs() map[string]string
}

// A FakeFile is an open file of a [FakeDir].
type FakeFile interface {
	// Text is what the file holds. It does not fill the reader's buffer, which
	// would have every caller's escape to the heap, real files included.
	Text() (string, error)
	// Write takes data as one write(2) does.
	Write(data string) (int, error)
	// Wait returns when what the kernel would announce has happened since the
	// last read, or when ctx ends.
	Wait(ctx context.Context) error
	// Notify makes fn run at each announcement until Close. fn must not block.
	Notify(fn func())
	Close()
}

// A FakeMachine is what surrounds the trees of a fake cgroupfs.
type FakeMachine interface {
	Trees() []FakeTree
	// Memberships is the text of /proc/PID/cgroup; pid may be "self".
	Memberships(pid string) (string, error)
	// Kill sends SIGKILL.
	Kill(pid int) error
	// Process is a process's name and state, as in /proc/PID/stat.
	Process(pid int) (name, state string)
	// Pressure is /proc/pressure.
	Pressure() FakeDir
	// SwapFree is the free swap space, in bytes.
	SwapFree() uint64
	// HugePages are the sizes of huge pages, in bytes.
	HugePages() []uint64
}

// A FakeTree is one hierarchy of a [FakeMachine].
type FakeTree struct {
	V2          bool
	Detached    bool     // mounted by nobody else
	Controllers []string // of a v1 hierarchy
	Path        string   // where it is mounted
	Top         FakeDir
}
