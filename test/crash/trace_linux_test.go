// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Numbers of ptrace(2) and wait(2) that package syscall lacks.
const (
	ptraceGetSyscallInfo = 0x420e
	ptraceOExitKill      = 0x100000
	wNoThread            = 0x20000000
	syscallStop          = syscall.SIGTRAP | 0x80
)

// syscallInfo is struct ptrace_syscall_info (Linux 5.3).
type syscallInfo struct {
	op   uint8 // 1: in front of a call, 2: behind it
	_    [3]byte
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64
	args [6]uint64
}

// tracer runs a process and kills it in front of the call that it is set to. All
// calls of ptrace(2) are made by one thread.
type tracer struct {
	pid  int
	over chan struct{} // closed when the process, and all that it left behind before their exec, are through

	mu     sync.Mutex
	armed  bool
	at     int    // kill in front of this call; 0 counts only
	file   string // or in front of a write to a file whose path ends so
	calls  int
	killed bool
	last   string // what would have come next

	tasks map[int]bool // all tasks: whether it is a thread of the process
	left  map[int]bool // tasks that are let go of at their next stop
}

// trace starts cmd, traced.
func trace(cmd *exec.Cmd) (*tracer, error) {
	t := &tracer{over: make(chan struct{}), tasks: make(map[int]bool), left: make(map[int]bool)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with the goroutine
		err := cmd.Start()
		if err == nil {
			t.pid = cmd.Process.Pid
			err = t.begin()
		}
		started <- err
		if err == nil {
			t.run()
		}
		close(t.over)
	}()
	return t, <-started
}

// traceOther traces a process that runs.
func traceOther(pid int) (*tracer, error) {
	t := &tracer{pid: pid, over: make(chan struct{}), tasks: make(map[int]bool), left: make(map[int]bool)}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with the goroutine
		err := t.attach()
		started <- err
		if err == nil {
			t.run()
		}
		close(t.over)
	}()
	return t, <-started
}

// attach stops every thread of the process, until there is no other, and lets them go
// on.
func (t *tracer) attach() error {
	for more := true; more; {
		more = false
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
		if err != nil {
			return err
		}
		for _, e := range entries {
			tid, _ := strconv.Atoi(e.Name())
			if t.tasks[tid] {
				continue
			}
			more = true
			var ws syscall.WaitStatus
			if err := syscall.PtraceAttach(tid); err != nil && err != syscall.EPERM { // or it is the child of one that is traced
				return err
			}
			if _, err := syscall.Wait4(tid, &ws, syscall.WALL, nil); err != nil {
				return err
			}
			if err := syscall.PtraceSetOptions(tid, traceOptions); err != nil {
				return err
			}
			t.tasks[tid] = true
		}
	}
	for tid := range t.tasks {
		if err := syscall.PtraceSyscall(tid, 0); err != nil {
			return err
		}
	}
	return nil
}

const traceOptions = syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE | syscall.PTRACE_O_TRACEFORK |
	syscall.PTRACE_O_TRACEVFORK | syscall.PTRACE_O_TRACEEXEC | ptraceOExitKill

func (t *tracer) begin() error {
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &ws, syscall.WALL, nil); err != nil {
		return err
	}
	t.tasks[t.pid] = true
	if err := syscall.PtraceSetOptions(t.pid, traceOptions); err != nil {
		return err
	}
	return syscall.PtraceSyscall(t.pid, 0)
}

// arm has the process killed in front of the n-th call from now on that could
// change something; 0 only counts.
func (t *tracer) arm(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed, t.at, t.file, t.calls = true, n, "", 0
}

// armAtFile has the process killed in front of its first write to a file whose path
// ends so.
func (t *tracer) armAtFile(suffix string) {
	t.arm(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file = suffix
}

// disarm returns how many calls there were, and whether the process was killed.
func (t *tracer) disarm() (calls int, killed bool, last string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = false
	return t.calls, t.killed, t.last
}

func (t *tracer) kill() { _ = syscall.Kill(t.pid, syscall.SIGKILL) }

// run follows all tasks until none is left. Tasks may end at any time, so errors
// of single calls mean nothing.
func (t *tracer) run() {
	options, dead := syscall.WALL|wNoThread, false
	for {
		var ws syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &ws, options, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err == nil && tid == 0:
			t.leave()
			time.Sleep(time.Millisecond)
			continue
		case err != nil:
			return
		case !ws.Stopped():
			delete(t.tasks, tid)
			if tid == t.pid {
				options, dead = options|syscall.WNOHANG, true
			}
			continue
		case dead && ws.StopSignal() == syscall.SIGSTOP && t.left[tid]:
			delete(t.tasks, tid)
			_ = syscall.PtraceDetach(tid)
			continue
		}
		_, seen := t.tasks[tid]
		if !seen {
			t.tasks[tid] = isThread(t.pid, tid)
		}
		switch sig := ws.StopSignal(); {
		case sig == syscallStop:
			t.stopped(tid)
			_ = syscall.PtraceSyscall(tid, 0)
		case sig == syscall.SIGTRAP && ws.TrapCause() == syscall.PTRACE_EVENT_EXEC && tid != t.pid:
			delete(t.tasks, tid)
			_ = syscall.PtraceDetach(tid) // it goes its own way
		case sig == syscall.SIGTRAP, sig == syscall.SIGSTOP && !seen:
			_ = syscall.PtraceSyscall(tid, 0)
		default:
			_ = syscall.PtraceSyscall(tid, int(sig))
		}
	}
}

// leave has those tasks stop, to be let go of, that wait for something that only
// the dead process would have done: id maps.
func (t *tracer) leave() {
	for tid := range t.tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", tid))
		nr, _, _ := strings.Cut(string(text), " ")
		if err == nil && nr == strconv.Itoa(syscall.SYS_FUTEX) && !t.left[tid] {
			t.left[tid] = true
			_ = syscall.Kill(tid, syscall.SIGSTOP)
		}
	}
}

func isThread(pid, tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, tid))
	return err == nil
}

// stopped looks at a task in front of a call, or behind it.
func (t *tracer) stopped(tid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.armed || t.killed {
		return
	}
	var info syscallInfo
	_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info.op != 1 || t.tasks[tid] && !changes(&info) {
		return
	}
	t.calls++
	writes := false
	if t.file != "" && info.nr == syscall.SYS_WRITE {
		path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, info.args[0]))
		writes = strings.HasSuffix(path, t.file)
	}
	if t.calls == t.at || writes {
		t.killed = true
		t.last = fmt.Sprintf("call %d of number %d by task %d", t.calls, info.nr, tid)
		t.kill()
	}
}

// changes reports whether a call of the process's own could change something that
// outlives it.
func changes(info *syscallInfo) bool {
	switch info.nr {
	case syscall.SYS_OPENAT:
		return info.args[2]&(syscall.O_CREAT|syscall.O_TRUNC) != 0
	case syscall.SYS_CLONE:
		return info.args[0]&syscall.CLONE_THREAD == 0
	case syscall.SYS_MKDIRAT, syscall.SYS_UNLINKAT, syscall.SYS_WRITE, syscall.SYS_PWRITE64, syscall.SYS_FTRUNCATE,
		syscall.SYS_SENDTO, syscall.SYS_SENDMSG, syscall.SYS_MOUNT, syscall.SYS_UMOUNT2, syscall.SYS_KILL,
		syscall.SYS_FSETXATTR, syscall.SYS_FREMOVEXATTR, syscall.SYS_SETXATTR, syscall.SYS_UNSHARE, syscall.SYS_RENAMEAT,
		syscall.SYS_FLOCK, syscall.SYS_SPLICE, syscall.SYS_MKNODAT,
		276, 316, // renameat2 on arm64, amd64
		268, 308, // setns
		424, // pidfd_send_signal
		429, // move_mount
		435: // clone3
		return true
	}
	return changesHere(info)
}
