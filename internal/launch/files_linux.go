// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"os/signal"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/sys"
)

// files moves the descriptors to their places. What a later place takes from a
// number that an earlier place overwrites is first copied beyond all of them;
// after that the places are filled in ascending order.
func (p *Program) files(files []int) {
	beyond := len(files)
	for _, fd := range files {
		beyond = max(beyond, fd+1)
	}
	var copied map[int]int // place -> step whose result holds its file
	for place, fd := range files {
		if fd >= 0 && fd < place {
			if copied == nil {
				copied = make(map[int]int)
			}
			copied[place] = p.add(unix.SYS_FCNTL, fd, unix.F_DUPFD_CLOEXEC, beyond)
		}
	}
	for place, fd := range files {
		switch from, moved := copied[place]; {
		case fd == -1:
			p.add(unix.SYS_CLOSE_RANGE, place, place, 0) // closed already is fine
		case moved:
			p.add(unix.SYS_DUP3, result(from), place, 0)
		case fd == place:
			p.add(unix.SYS_FCNTL, fd, unix.F_SETFD, 0)
		default:
			p.add(unix.SYS_DUP3, fd, place, 0)
		}
	}
}

// coreSignals are those whose default action dumps core, signal(7).
var coreSignals = []unix.Signal{
	unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS,
	unix.SIGFPE, unix.SIGSEGV, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGSYS,
}

// sigset is the kernel's signal set: 64 bits on both architectures.
func sigset(signals ...unix.Signal) []byte {
	var set uint64
	for _, s := range signals {
		set |= 1 << (s - 1)
	}
	return (*[8]byte)(unsafe.Pointer(&set))[:]
}

const (
	sigactionSize = 32 // struct sigaction: handler, flags, restorer, mask
	futexWait     = 0 | 128
	futexWake     = 1 | 128 // FUTEX_PRIVATE_FLAG
)

// ignoredSignals lists what the process ignores: CLONE_CLEAR_SIGHAND resets
// handlers only, and exec keeps what is ignored. The Go runtime knows, but for the
// signals of job control, which it leaves as the process was started with them: a
// shell or a daemon often ignores some. What C code in the process ignores behind
// the runtime's back is not looked for.
func ignoredSignals() []int {
	var ignored []int
	for sig := 1; sig <= 64; sig++ {
		if signal.Ignored(unix.Signal(sig)) {
			ignored = append(ignored, sig)
		}
	}
	for _, sig := range [...]unix.Signal{unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		if !slices.Contains(ignored, int(sig)) && ignores(sig) {
			ignored = append(ignored, int(sig))
		}
	}
	return ignored
}

// ignores asks the kernel.
func ignores(sig unix.Signal) bool {
	const sigIgn = 1
	var act [sigactionSize / 8]uint64
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0)
	return errno == 0 && act[0] == sigIgn
}

// timeAtExec reports whether exec enters the time namespace that unshare made:
// kernel commit 2b5f9dad32ed, "fs/exec: switch timens when a task gets a new
// mm". Before it the namespace waits for the next fork, and clone refuses one
// that shares memory. No call answers this, so a release is looked at, and only
// to refuse.
func timeAtExec() bool {
	old, err := sys.ReleaseBefore(6, 2)
	return err == nil && !old
}
