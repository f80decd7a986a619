// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"slices"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/nofile"
)

// Program is a compiled Spec: what a child does between clone and exec. It does
// not change once compiled and may be started any number of times, also at
// once; but one with a stub or idmapped mounts, or that is announced, only once, and it is to be closed if it is
// not.
type Program struct {
	image
	flags    uint64      // of clone3
	names    []File      // descriptors, as errors call them
	labels   []File      // steps that have a name of their own
	maps     []mapFile   // what the parent writes into /proc/PID
	build    assembly    // of its root
	overlaid int         // step that mounts an overlay, counted as errors count; or 0
	pidns    int         // namespace that the child is born in, or -1
	held     [2]int      // steps that hold the report and the stub
	report   *execReport // how the stub's exec went, or nil
	waits    int         // step that waits for attend
	word     *word       // what it waits for, where a child is announced
	announce func(pid, pidfd int) error
	idmapped []*idmapped // mounts that attend makes
	layers   []File      // those of them that are an overlay's
	crosses  bool        // credentials change, see dumpable_linux.go
}

const offsetOfMapped = unsafe.Offsetof(header{}.mapped)

// Compile checks the Spec and makes a program of it. It touches nothing; it
// looks up which signals the process ignores (they would be inherited), which
// capabilities the kernel knows if Capabilities are given, and, where the child
// sees the caller's files, whether Path can be executed.
//
// Errors are a *[SpecError], an *[fs.PathError] for Path, or wrap
// [ErrNotSupported].
func Compile(s Spec) (*Program, error) { return CompileAnnounced(s, nil) }

// CompileAnnounced is Compile of a child that is announced: announce is called with
// its numbers while it waits, before it has namespaces that are filled, files or a
// program of its own. It goes on if that returns nil; if the caller ends before, so
// does the child. So whoever writes down what he is told has heard of every child
// there is. Such a child joins no pid namespace.
func CompileAnnounced(s Spec, announce func(pid, pidfd int) error) (*Program, error) {
	if announce != nil && s.joins(NewPID) {
		return nil, bad("Join", NewPID, errors.New("is not entered by a child that is announced"))
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := s.checkPath(); err != nil {
		return nil, err
	}
	if s.Namespaces&NewTime != 0 && !timeAtExec() {
		return nil, &feature.UnsupportedError{Feature: "time namespace of a child that shares memory",
			Since: "Linux 6.2", Reason: "this kernel does not enter it at exec"}
	}
	p := &Program{pidns: -1, names: make([]File, 0, 4+len(s.Tasks)+len(s.Join))}
	p.reserve(usualSteps(&s))
	p.flags = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_PARENT_SETTID | unix.CLONE_CLEAR_SIGHAND |
		uint64(s.Namespaces&^(NewCgroup|NewTime))
	args := cloneArgs{}
	if s.Cgroup != nil {
		p.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(s.Cgroup.FD)
		p.names = append(p.names, *s.Cgroup)
	}
	if !slices.ContainsFunc(s.Calls, func(c Call) bool { return !c.NoFiles }) { // or they may name any descriptor
		p.flags |= unix.CLONE_FILES
	}
	args.flags = p.flags
	if s.Stub != nil {
		var err error
		if p.report, err = newReport(); err != nil {
			return nil, err
		}
	}
	if err := p.reserveIDMapped(&s); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if announce != nil || len(p.idmapped) > 0 {
		var err error
		if p.word, err = newWord(); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.announce = announce
	}
	for _, lower := range []func(*Program, *Spec) error{
		(*Program).enter, (*Program).setup, (*Program).restrict, (*Program).exec,
	} {
		if err := lower(p, &s); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	p.once = p.report != nil || p.word != nil
	p.finish(args)
	return p, nil
}

// usualSteps is about how many steps the Spec takes; more only take more time to
// lay out.
func usualSteps(s *Spec) int {
	if s.Root != nil {
		return fewSteps + 7*len(s.Root.Items)
	}
	return fewSteps
}

const fewSteps = 64

// checkPath refuses what execve will refuse, where the child's view of the
// files is the caller's.
func (s *Spec) checkPath() error {
	if s.Root != nil || len(s.Mounts)+len(s.Unmounts) > 0 || len(s.Calls) > 0 || len(s.Join) > 0 || (s.Path[0] != '/' && s.Dir != "") {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(s.Path, &st); err != nil {
		return &fs.PathError{Op: "exec", Path: s.Path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return &fs.PathError{Op: "exec", Path: s.Path, Err: unix.EACCES}
	}
	return nil
}

// enter: cgroups, id maps, namespaces.
func (p *Program) enter(s *Spec) error {
	if s.Namespaces&NewUser != 0 || p.word != nil {
		// The parent sleeps on index until the child is there, so that both work
		// at once; the child needs the maps only below.
		p.add(unix.SYS_FUTEX, field(unsafe.Offsetof(header{}.index)), futexWake, 1)
	}
	for _, t := range s.Tasks {
		p.names = append(p.names, t)
		p.whole(p.add(unix.SYS_WRITE, t.FD, []byte("0"), 1))
	}
	if len(p.idmapped) > 0 {
		p.waitForParent()
	}
	if p.flags&unix.CLONE_FILES != 0 {
		// From here on the child has descriptors of its own: those below all
		// that it needs. To copy and then close the others would cost more
		// than all the rest where the caller has ten thousand.
		p.add(unix.SYS_CLOSE_RANGE, p.needed(s), uintptr(^uint32(0)), unix.CLOSE_RANGE_UNSHARE)
	}
	// These belong to root once the memory is undumpable, that is after any
	// change of ids.
	if s.OOMScoreAdj != nil {
		p.write(Write{Path: "/proc/self/oom_score_adj", Data: strconv.Itoa(*s.OOMScoreAdj)})
	}
	if s.Namespaces&NewTime != 0 {
		p.add(unix.SYS_UNSHARE, uintptr(NewTime))
		if s.Monotonic != 0 || s.Boottime != 0 {
			p.write(Write{Path: "/proc/self/timens_offsets",
				Data: "monotonic " + offset(s.Monotonic) + "\nboottime " + offset(s.Boottime) + "\n"})
		}
	}
	if (s.Namespaces&NewUser != 0 || p.word != nil) && len(p.idmapped) == 0 {
		if p.flags&unix.CLONE_FILES != 0 {
			p.closeGaps(s)
		}
		p.waitForParent()
	}
	if s.Namespaces&NewUser != 0 {
		p.maps = mapFiles(mapLines(s.UIDMaps), mapLines(s.GIDMaps), s.Setgroups)
		if s.Root != nil {
			p.propagation(s)
			p.openTrees(s) // as who the caller is, who may see more than the ids of the namespace
		}
		// What the child makes from here on belongs to the namespace's root.
		uid, gid := s.credential().UID, s.credential().GID
		if mapped(s.UIDMaps, 0) {
			uid = 0
		}
		if mapped(s.GIDMaps, 0) {
			gid = 0
		}
		p.identity(uid, gid)
	}
	if s.Namespaces&NewCgroup != 0 {
		p.add(unix.SYS_UNSHARE, uintptr(NewCgroup)) // as a clone flag its root would be the parent's cgroup
	}
	for _, j := range s.Join {
		p.names = append(p.names, j.File)
		if j.Kind == NewPID && !s.Reaper { // or it is the stub's child that is born there
			p.pidns, p.crosses = j.FD, true
			continue
		}
		if j.Kind&NewUser != 0 {
			// Whoever has CAP_SYS_PTRACE in there must not reach the memory
			// that the child shares with us.
			p.crosses = true
			p.add(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
		}
		p.add(unix.SYS_SETNS, j.FD, uintptr(j.Kind))
	}
	return nil
}

// setup: what the new namespaces hold, and the descriptors.
func (p *Program) setup(s *Spec) error {
	if s.Hostname != "" {
		p.add(unix.SYS_SETHOSTNAME, []byte(s.Hostname), len(s.Hostname))
	}
	if s.Domainname != "" {
		p.add(unix.SYS_SETDOMAINNAME, []byte(s.Domainname), len(s.Domainname))
	}
	if s.Root == nil || s.Namespaces&NewUser == 0 { // or it is done already
		p.propagation(s)
		p.openTrees(s)
	}
	for _, m := range s.Mounts {
		var data any = 0
		if m.Data != "" {
			data = m.Data
		}
		p.add(unix.SYS_MOUNT, m.Source, m.Target, m.Type, m.Flags, data)
	}
	p.root(s)
	if s.Loopback {
		ifreq := make([]byte, 40)
		copy(ifreq, "lo")
		binary.NativeEndian.PutUint16(ifreq[unix.IFNAMSIZ:], unix.IFF_UP)
		sock := result(p.add(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))
		p.add(unix.SYS_IOCTL, sock, unix.SIOCSIFFLAGS, ifreq)
		p.add(unix.SYS_CLOSE, sock)
	}
	for _, w := range s.Writes {
		p.write(w)
	}
	p.calls(s, Setup)
	if s.Setsid {
		p.add(unix.SYS_SETSID)
	}
	if s.Ticket != nil {
		p.names = append(p.names, *s.Ticket)
		p.add(unix.SYS_READ, s.Ticket.FD, make([]byte, 8), 8) // EAGAIN: it has been read
	}
	p.holdStub(s)
	p.files(s.Files)
	if s.closesEarly() {
		p.closeOthers(s) // the working directory must not be had through one (CVE-2024-21626)
	}
	if s.Terminal {
		p.add(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	if s.Umask != nil {
		p.add(unix.SYS_UMASK, uintptr(*s.Umask))
	}
	for _, r := range s.Rlimits {
		p.optional(p.rlimit(r), r.Optional)
	}
	if !slices.ContainsFunc(s.Rlimits, func(r Rlimit) bool { return r.Resource == unix.RLIMIT_NOFILE }) {
		if soft, hard, yes := nofile.Raised(); yes {
			st := p.rlimit(Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: soft, Hard: hard})
			p.steps[st].flags |= flagOptional | flagQuiet // somebody has lowered the hard one since
		}
	}
	p.scheduling(s.Scheduling)
	p.keyring(s)
	return nil
}

func (p *Program) rlimit(r Rlimit) (step int) {
	limit := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, r.Soft), r.Hard)
	return p.add(unix.SYS_PRLIMIT64, 0, r.Resource, limit, 0)
}

// propagation cuts a new mount namespace off from the caller's.
func (p *Program) propagation(s *Spec) {
	if s.Namespaces&NewMount != 0 {
		kind := uintptr(unix.MS_PRIVATE)
		if s.Propagation == Slave {
			kind = unix.MS_SLAVE
		}
		p.add(unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|kind, 0)
	}
	for _, path := range s.Unmounts {
		p.optional(p.add(unix.SYS_UMOUNT2, path, unix.MNT_DETACH), true)
	}
}

// restrict: who the child is and what it may do.
func (p *Program) restrict(s *Spec) error {
	c, caps := s.credential(), s.Capabilities
	if !s.NoNewPrivs { // then these take a capability, CAP_SYS_ADMIN
		p.scope(s)
		p.seccomp(s)
	}
	if caps != nil {
		last := lastCapability()
		all := CapSet(1)<<(last+1) - 1
		for _, set := range []CapSet{caps.Bounding, caps.Permitted, caps.Effective, caps.Inheritable, caps.Ambient} {
			if set&^all != 0 {
				return bad("Capabilities", set, fmt.Errorf("this kernel knows capabilities up to %d", last))
			}
		}
		for drop := all &^ caps.Bounding; drop != 0; drop &= drop - 1 {
			p.add(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, bits.TrailingZeros64(uint64(drop)), 0, 0, 0)
		}
		if c != nil && c.UID != 0 {
			p.add(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
		}
	}
	if c != nil {
		if s.Namespaces&NewUser == 0 && !c.KeepGroups || s.Setgroups {
			groups := []byte{}
			for _, g := range c.Groups {
				groups = binary.NativeEndian.AppendUint32(groups, g)
			}
			p.add(unix.SYS_SETGROUPS, len(c.Groups), groups)
		}
		p.identity(c.UID, c.GID)
	}
	if s.Dir != "" {
		p.chdir(s)
	}
	if caps != nil {
		head := binary.NativeEndian.AppendUint32(nil, unix.LINUX_CAPABILITY_VERSION_3)
		var sets []byte
		for shift := 0; shift < 64; shift += 32 {
			for _, set := range []CapSet{caps.Effective, caps.Permitted, caps.Inheritable} {
				sets = binary.NativeEndian.AppendUint32(sets, uint32(set>>shift))
			}
		}
		p.add(unix.SYS_CAPSET, append(head, 0, 0, 0, 0), sets)
		p.add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		for raise := caps.Ambient; raise != 0; raise &= raise - 1 {
			p.add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, bits.TrailingZeros64(uint64(raise)), 0, 0)
		}
	}
	if s.NoNewPrivs {
		p.add(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		p.scope(s)
	}
	p.calls(s, Restricted)
	return nil
}

// exec: only what the program inherits is left, then it runs.
func (p *Program) exec(s *Spec) error {
	if !s.closesEarly() { // or they are closed already
		p.closeOthers(s)
	}
	for _, sig := range ignoredSignals() {
		p.add(unix.SYS_RT_SIGACTION, sig, make([]byte, sigactionSize), 0, 8)
	}
	// A signal that dumps core ends the launch here, while it is blocked:
	// once it is not, and until execve, the dump would take the parent along
	// (before Linux 5.16).
	pending := p.add(unix.SYS_RT_SIGTIMEDWAIT, sigset(coreSignals...), 0, make([]byte, 16), 8)
	p.steps[pending].want = uint32(unix.EAGAIN)
	p.add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, sigset(), 0, 8)
	if s.NoNewPrivs {
		p.seccomp(s)
	}
	p.calls(s, Last)
	argv := s.Args
	if argv == nil {
		argv = []string{s.Path}
	}
	if s.Stub != nil {
		p.execStub(s, argv)
		return nil
	}
	p.add(unix.SYS_EXECVE, s.Path, p.vector(argv), p.vector(s.Env))
	return nil
}

// confined reports whether what the child sees is somebody else's.
func (s *Spec) confined() bool { return s.Root != nil || s.Confined }

// closesEarly reports whether all but Files is closed as soon as those are there.
func (s *Spec) closesEarly() bool { return s.confined() || s.lands() }

// lands reports whether a Landlock domain is entered.
func (s *Spec) lands() bool { return s.Scoped != 0 || len(s.FileRules) > 0 }

// seccomp loads the filter.
func (p *Program) seccomp(s *Spec) {
	if len(s.Seccomp) == 0 {
		return
	}
	// struct sock_fprog: how many, and where.
	program := binary.NativeEndian.AppendUint64(nil, uint64(len(s.Seccomp)/8))
	program = binary.NativeEndian.AppendUint64(program, p.bytes(s.Seccomp))
	at := p.bytes(program)
	p.inner = append(p.inner, int(at)+8)
	p.add(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, block(at))
}

// identity changes uid and gid. The kernel makes the shared memory undumpable
// in the same moment.
func (p *Program) identity(uid, gid uint32) {
	p.crosses = true
	p.add(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
	p.add(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
}

// write opens, writes and closes a file.
func (p *Program) write(w Write) {
	open := p.add(unix.SYS_OPENAT, unix.AT_FDCWD, w.Path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	p.whole(p.add(unix.SYS_WRITE, result(open), []byte(w.Data), len(w.Data)))
	p.add(unix.SYS_CLOSE, result(open))
	for st := open; st < len(p.steps); st++ {
		p.optional(st, w.Optional)
		if st > open {
			p.steps[st].flags |= flagFollows
		}
	}
}

func (p *Program) whole(step int) { p.steps[step].flags |= flagWrite }

func (p *Program) label(step int, name string) {
	p.labels = append(p.labels, File{FD: step, Path: name})
}

func (p *Program) optional(step int, yes bool) {
	if yes {
		p.steps[step].flags |= flagOptional
	}
}

func (p *Program) calls(s *Spec, at Point) {
	for _, c := range s.Calls {
		if c.At != at {
			continue
		}
		args := make([]any, len(c.Args))
		for i, a := range c.Args {
			args[i] = a.Value
			if a.Bytes != nil {
				args[i] = a.Bytes
			}
		}
		st := p.add(c.Nr, args...)
		p.label(st, c.Name)
		p.optional(st, c.Optional)
	}
}

func mapLines(maps []IDMap) string {
	var b []byte
	for _, m := range maps {
		for i, n := range [...]uint32{m.Inside, m.Outside, m.Count} {
			b = append(strconv.AppendUint(b, uint64(n), 10), " \n"[i/2])
		}
	}
	return string(b)
}

// offset prints seconds and nanoseconds, the latter never negative.
func offset(d time.Duration) string {
	sec, nsec := int64(d/time.Second), int64(d%time.Second)
	if nsec < 0 {
		sec, nsec = sec-1, nsec+int64(time.Second)
	}
	return fmt.Sprintf("%d %d", sec, nsec)
}

// lastCapability is the kernel's highest capability, which is asked for once.
var lastCapability = sync.OnceValue(func() int {
	for c := 0; c < 64; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); errors.Is(err, unix.EINVAL) {
			return c - 1
		}
	}
	return 63
})
