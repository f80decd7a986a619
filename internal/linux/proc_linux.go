// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"os"
	"slices"
	"strconv"

	"github.com/caisson-run/caisson/internal/kernfs"
	"golang.org/x/sys/unix"
)

// BootID returns the random id of this boot of the machine. Pids, start times,
// cgroup ids and namespace inodes mean something only together with it.
func BootID() (string, error) {
	const path = "/proc/sys/kernel/random/boot_id"
	b, err := readFile(path)
	if err != nil {
		return "", err
	}
	id, err := ParseBootID(b)
	if err != nil {
		return "", parseError(path, b, err)
	}
	return id, nil
}

// ReadStat reads /proc/PID/stat. A pid that no process has is an error that
// matches [os.ErrNotExist]. A zombie is still a process: State is 'Z'.
func ReadStat(pid int) (Stat, error) {
	path := procPath(pid, "stat")
	b, err := readFile(path)
	if err != nil {
		return Stat{}, err
	}
	s, err := ParseStat(b)
	if err != nil {
		return Stat{}, parseError(path, b, err)
	}
	return s, nil
}

// StartTime returns when the process started, in clock ticks since boot: with
// the boot id and the pid it names one process for ever. Errors are those of
// [ReadStat].
func StartTime(pid int) (uint64, error) {
	s, err := ReadStat(pid)
	return s.StartTime, err
}

// PIDOf returns the pid of a pidfd's process. It is that process's only as long
// as [Exists] says so afterwards. The error matches [os.ErrNotExist] if the
// process was waited for, or is not visible from here.
func PIDOf(pidfd int) (int, error) {
	path := "/proc/thread-self/fdinfo/" + strconv.Itoa(pidfd)
	b, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, &kernfs.FileError{Op: "read", Path: path, Err: unix.EBADF}
	}
	if err != nil {
		return 0, err
	}
	pid, err := ParseFDInfoPID(b)
	if err != nil {
		return 0, parseError(path, b, err)
	}
	if pid <= 0 {
		return 0, &kernfs.FileError{Op: "read", Path: path, Err: noProcess{}}
	}
	return pid, nil
}

// Exists returns nil as long as the process of a pidfd was not waited for: until
// then no other process gets its pid. Afterwards the error matches
// [os.ErrNotExist].
//
// Linux 5.1 (pidfd_send_signal).
func Exists(pidfd int) error {
	err := unix.PidfdSendSignal(pidfd, 0, nil, 0)
	switch err {
	case nil, unix.EPERM: // it is there, though not ours
		return nil
	case unix.ESRCH:
		return noProcess{}
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// noProcess is an ESRCH that matches [os.ErrNotExist].
type noProcess struct{}

func (noProcess) Error() string   { return unix.ESRCH.Error() }
func (noProcess) Is(t error) bool { return t == os.ErrNotExist }
func (noProcess) Unwrap() error   { return unix.ESRCH }

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// readFile is [os.ReadFile] with the errors of this module, and with the two
// ways in which /proc says that a process has ended made one. It does not ask
// the kernel to poll the file, which takes more calls than reading it.
func readFile(path string) ([]byte, error) {
	op, b, err := "open", []byte(nil), error(nil)
	fd := -1
	for {
		if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != unix.EINTR {
			break
		}
	}
	if err == nil {
		op = "read"
		b, err = readAll(fd)
		_ = unix.Close(fd) // it was only read
	}
	switch err {
	case nil:
		return b, nil
	case unix.ESRCH:
		err = noProcess{}
	}
	return nil, &kernfs.FileError{Op: op, Path: path, Err: err}
}

func readAll(fd int) ([]byte, error) {
	b := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return b, nil
		default:
			b = slices.Grow(b[:len(b)+n], 1)
		}
	}
}

// ReadCPUTimes reads /proc/stat.
func ReadCPUTimes() (CPUTimes, error) { return readParsed("/proc/stat", ParseCPUTimes) }

// ReadMemInfo reads /proc/meminfo.
func ReadMemInfo() (MemInfo, error) { return readParsed("/proc/meminfo", ParseMemInfo) }

func readParsed[T any](path string, parse func([]byte) (T, error)) (T, error) {
	b, err := readFile(path)
	if err != nil {
		var none T
		return none, err
	}
	v, err := parse(b)
	if err != nil {
		return v, parseError(path, b, err)
	}
	return v, nil
}
