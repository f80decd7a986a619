// SPDX-License-Identifier: Apache-2.0

package launch

import "time"

// Spec says what a child is and what it does on its way to exec. It is plain
// data; the zero value of each field leaves what the child inherits. Everything
// happens in the order of the fields, but for Dir and Files, whose place is
// stated there.
//
// Descriptors named in a Spec stay the caller's and must stay open until Start
// has returned.
type Spec struct {
	// Path is the program, as the child sees it after its mounts. It holds a
	// slash: a search through PATH is the caller's, in the caller's view of the
	// file system (exec.LookPath).
	Path string
	Args []string // argv; nil means {Path}
	Env  []string // the whole environment, "NAME=value"; nil is an empty one

	// Files[i] becomes descriptor i of the child, -1 leaves i closed; nil means
	// 0, 1 and 2 as they are. Every other descriptor is closed. Done after Calls
	// at [Setup].
	Files []int

	// Dir is the working directory, entered with the child's final uid and gid
	// and after its mounts. Empty means the inherited one.
	Dir string

	// Cgroup is an open cgroup v2 directory that the child is born in
	// (CLONE_INTO_CGROUP); it must be a directory below the caller's delegation.
	Cgroup *File

	// Tasks are v1 `tasks` files, open for writing: the child writes "0" to each.
	Tasks []File

	// OOMScoreAdj is written to /proc/self/oom_score_adj, -1000 to 1000. Less
	// than the caller's own takes CAP_SYS_RESOURCE. nil keeps the caller's.
	OOMScoreAdj *int

	// Namespaces are created. A cgroup namespace is rooted at Cgroup and Tasks.
	Namespaces Namespaces

	// UIDMaps and GIDMaps fill a new user namespace; the caller's process writes
	// them or, where the kernel lets it map its own ids alone, newuidmap(1) and
	// newgidmap(1) do. Setgroups allows setgroups(2) in there, for which it takes
	// CAP_SETGID over the caller's namespace or a map by newgidmap; without it the
	// kernel wants GIDMaps to be one line for the caller's own gid.
	UIDMaps, GIDMaps []IDMap
	Setgroups        bool

	// Join enters existing namespaces, in this order. A pid namespace is entered
	// by birth, wherever it stands in the list.
	Join []Join

	// Monotonic and Boottime shift the clocks of a new time namespace.
	Monotonic, Boottime time.Duration

	Hostname, Domainname string // need NewUTS; at most 64 bytes

	// Propagation is set on the whole tree of a new mount namespace, before
	// Mounts.
	Propagation Propagation
	Unmounts    []string // mount points, detached with all below them; a refusal is noted in Child.Degraded
	Mounts      []Mount

	// Confined says that the files the child sees are somebody else's: it enters
	// Dir with no descriptors but Files, and by no magic link of /proc. With a
	// Root it is always so.
	Confined bool

	Root *Root // a root file system of the child's own; takes the place of Mounts

	Loopback bool    // bring up lo; needs NewNet
	Writes   []Write // files in the child's namespaces, sysctls for example; not /proc/self, which may be root's by now
	Calls    []Call  // further system calls, each at its Point

	Setsid   bool
	Terminal bool // make descriptor 0 the controlling terminal; needs Setsid

	Umask   *uint32
	Rlimits []Rlimit

	Scheduling *Scheduling
	Keyring    bool // an anonymous session keyring of its own; optional

	// Credential is the uid and gid to run as. In a new user namespace nil means
	// uid 0 and gid 0 there.
	Credential   *Credential
	Capabilities *Capabilities
	NoNewPrivs   bool

	// Ticket is an eventfd that does not block, with the count 1. The child reads it
	// before it takes its Files; if somebody else has, the launch ends there. So who
	// reads it knows that the program has not run, and will not.
	Ticket *File

	// Stub is executed first, and executes Path: so that the caller's binary is
	// not what /proc/self/exe is while Path is looked up. Reaper has the stub stay
	// as the parent of Path, reaping what is left to it: as the first process of
	// NewPID or, where a pid namespace is joined, from outside of that. So one can be
	// joined that the caller's threads may not enter, after a user namespace that
	// comes first in Join. Path ends with the stub.
	Stub   *Stub
	Reaper bool

	// Scoped are LANDLOCK_SCOPE_* that the child gives up, Linux 6.12. Without
	// NoNewPrivs it takes CAP_SYS_ADMIN, as Seccomp does.
	Scoped uint64

	// FileRules are, if there are any, all that the child may do with files, by
	// Landlock (Linux 5.13) and as Scoped in what it takes. What is open already stays
	// open. All but Files is closed before then.
	FileRules []FileRule

	// Seccomp is a filter, an array of struct sock_filter. It is loaded last or,
	// without NoNewPrivs, while the child still has its capabilities. It must let
	// the child do what follows (capset, prctl, execve), and see the package's
	// notes about what it must not do.
	Seccomp []byte
}

// FileRule is a file, or a directory and all below it, which the child finds there
// when it has its Root, and what it may do with it.
type FileRule struct {
	Path                 string
	Read, Write, Execute bool
}

// File is an open descriptor and the name that errors call it by.
type File struct {
	FD   int
	Path string
}

// Namespaces is a set of namespace kinds, with the kernel's CLONE_NEW* values.
type Namespaces uint32

// The kinds of namespaces.
const (
	NewTime   Namespaces = 0x00000080 // entered at exec, which takes Linux 6.2
	NewMount  Namespaces = 0x00020000
	NewCgroup Namespaces = 0x02000000
	NewUTS    Namespaces = 0x04000000
	NewIPC    Namespaces = 0x08000000
	NewUser   Namespaces = 0x10000000
	NewPID    Namespaces = 0x20000000
	NewNet    Namespaces = 0x40000000

	allNamespaces = NewTime | NewMount | NewCgroup | NewUTS | NewIPC | NewUser | NewPID | NewNet
)

// IDMap maps Count ids from Inside on to ids from Outside on, as in a line of
// /proc/PID/uid_map. Outside is in the caller's user namespace.
type IDMap struct{ Inside, Outside, Count uint32 }

// Join is an existing namespace to enter: its descriptor and its kind. Several
// kinds are those of a process, whose pidfd it is.
type Join struct {
	File
	Kind Namespaces
}

// Propagation of a new mount namespace.
type Propagation uint8

// Private cuts the tree off, so that no mount or unmount passes either way;
// Slave lets the caller's later mounts and unmounts arrive.
const (
	Private Propagation = iota
	Slave
)

// Mount is one mount(2).
type Mount struct {
	Source, Target, Type string
	Flags                uintptr // MS_*
	Data                 string
}

// Write is a file to open for writing, to write in one write(2) and to close.
type Write struct {
	Path, Data string
	Optional   bool // a refusal is noted in Child.Degraded and does not end the launch
}

// Rlimits are the numbers of include/uapi/asm-generic/resource.h, by what they are called
// without RLIMIT_.
var Rlimits = map[string]int{
	"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7,
	"memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
}

// Rlimit is one prlimit64(2). ^uint64(0) is RLIM_INFINITY.
type Rlimit struct {
	Resource   int // RLIMIT_*
	Soft, Hard uint64
	Optional   bool // as in Write: raising Hard needs CAP_SYS_RESOURCE
}

// Credential is what a child runs as. Groups are the supplementary groups; nil
// drops all of them, except in a user namespace without Setgroups, where the
// kernel lets nobody change them.
type Credential struct {
	UID, GID   uint32
	Groups     []uint32
	KeepGroups bool // for a user namespace joined in which nobody may set them
}

// CapSet is a set of capabilities: bit n is capability n.
type CapSet uint64

// Capabilities are the child's capability sets at exec. Bounding only ever
// drops. A program run as uid 0 gets at exec what Bounding leaves, whatever the
// other sets say; as another uid it gets Ambient (capabilities(7)).
type Capabilities struct {
	Bounding, Permitted, Effective, Inheritable, Ambient CapSet
}

// Point is a place among the steps of a program.
type Point uint8

// The places a Call can take.
const (
	Setup      Point = iota // namespaces and mounts are made, nothing is dropped, all descriptors are open
	Restricted              // uid, capabilities and no_new_privs are final, all descriptors are open
	Last                    // between close_range and execve: for a seccomp filter, see the package's notes
)

// Call is a system call that has no field of its own. Where a result is
// negative the launch ends, unless Optional.
type Call struct {
	At       Point
	Name     string // for Steps and errors: "landlock_restrict_self(5, 0)"
	Nr       uintptr
	Args     []Arg // at most six
	Optional bool
	NoFiles  bool // no argument is a descriptor: cheaper, and possible with a Root
}

// Arg is an argument of a Call: the address of a copy of Bytes, or Value if
// Bytes is nil.
type Arg struct {
	Value uintptr
	Bytes []byte
}
