// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/caisson-run/caisson/internal/feature"
	"golang.org/x/sys/unix"
)

// pidfdInfo is struct pidfd_info of include/uapi/linux/pidfd.h, in its first
// size, which every kernel with the call takes.
type pidfdInfo struct {
	mask     uint64
	cgroupid uint64
	_        [11]uint32 // pids and ids
	exitCode int32
}

const (
	pidfdGetInfo  = 3<<30 | unsafe.Sizeof(pidfdInfo{})<<16 | 0xff<<8 | 11 // _IOWR(0xFF, 11, struct pidfd_info)
	pidfdInfoExit = 1 << 3
)

// PidfdExit is how the process of pidfd has ended, whoever's child it was. It
// becomes known when its parent, or the reaper that has inherited it, has waited
// for it: PidfdExit, called after the end, gives that the time of patience.
//
// Returns ErrNotSupported before Linux 6.15 (7477d7dce48a "pidfs: allow to
// retrieve exit information"), and [os.ErrDeadlineExceeded] if nobody has waited
// for it by then.
func PidfdExit(pidfd int, patience time.Duration) (syscall.WaitStatus, error) {
	info, err := getPidfdInfo(pidfd)
	switch {
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		return 0, noPidfdExit(err)
	case errors.Is(err, unix.ESRCH): // before 6.15, of a process that was waited for
		return 0, noPidfdExit(err)
	case err != nil:
		return 0, err
	case info.mask&pidfdInfoExit != 0:
		return syscall.WaitStatus(info.exitCode), nil
	}
	// Being waited for is a hang-up, which is polled for without being named.
	deadline := time.Now().Add(patience)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return 0, os.NewSyscallError("poll of a pidfd", os.ErrDeadlineExceeded)
		}
		fds := []unix.PollFd{{Fd: int32(pidfd)}}
		n, err := unix.Poll(fds, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return 0, os.NewSyscallError("poll of a pidfd", err)
		}
		if n > 0 {
			break
		}
	}
	info, err = getPidfdInfo(pidfd)
	switch {
	case err != nil && !errors.Is(err, unix.ESRCH):
		return 0, err
	case err != nil, info.mask&pidfdInfoExit == 0:
		return 0, noPidfdExit(err)
	}
	return syscall.WaitStatus(info.exitCode), nil
}

func getPidfdInfo(pidfd int) (pidfdInfo, error) {
	info := pidfdInfo{mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return pidfdInfo{}, os.NewSyscallError("ioctl PIDFD_GET_INFO", errno)
	}
	return info, nil
}

func noPidfdExit(err error) error {
	return &feature.UnsupportedError{
		Feature: "the exit status of somebody else's child", Since: "Linux 6.15", Reason: "this kernel does not keep it", Err: err,
	}
}
