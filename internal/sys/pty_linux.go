// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// OpenPTY opens a new pseudoterminal of the machine's /dev/pts: pty is the
// caller's end, tty the one of the process that is to have it.
//
// Linux 4.13.
func OpenPTY() (pty, tty *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	pty = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		_ = pty.Close()
		return nil, nil, os.NewSyscallError("ioctl TIOCSPTLCK", err)
	}
	// By descriptor: no path can lead to another terminal.
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		_ = pty.Close()
		return nil, nil, os.NewSyscallError("ioctl TIOCGPTPEER", errno)
	}
	return pty, os.NewFile(peer, "tty"), nil
}

// ResizePTY sets the size of the terminal in characters.
func ResizePTY(pty *os.File, rows, columns uint16) error {
	conn, err := pty.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
	if cerr != nil {
		return cerr
	}
	return os.NewSyscallError("ioctl TIOCSWINSZ", err)
}

// HungUp reports whether a read of a pty failed because nobody has the other end.
func HungUp(err error) bool { return errors.Is(err, unix.EIO) }
