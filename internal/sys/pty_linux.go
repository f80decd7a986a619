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
	return onTerminal(pty, func(fd int) error {
		return os.NewSyscallError("ioctl TIOCSWINSZ", unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
	})
}

// HungUp reports whether a read of a pty failed because nobody has the other end.
func HungUp(err error) bool { return errors.Is(err, unix.EIO) }

// TerminalSize is that of a terminal in characters. Any other file is ENOTTY.
func TerminalSize(tty *os.File) (rows, columns uint16, err error) {
	err = onTerminal(tty, func(fd int) error {
		size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			rows, columns = size.Row, size.Col
		}
		return os.NewSyscallError("ioctl TIOCGWINSZ", err)
	})
	return rows, columns, err
}

// RawTerminal has a terminal pass on every key as it is and print every byte as it
// is, as cfmakeraw(3) does. restore makes it what it was.
func RawTerminal(tty *os.File) (restore func() error, err error) {
	var was unix.Termios
	set := func(to unix.Termios) error {
		return onTerminal(tty, func(fd int) error {
			return os.NewSyscallError("ioctl TCSETS", unix.IoctlSetTermios(fd, unix.TCSETS, &to))
		})
	}
	err = onTerminal(tty, func(fd int) error {
		now, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			was = *now
		}
		return os.NewSyscallError("ioctl TCGETS", err)
	})
	if err != nil {
		return nil, err
	}
	raw := was
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := set(raw); err != nil {
		return nil, err
	}
	return func() error { return set(was) }, nil
}

// onTerminal calls do with the descriptor, which stays as blocking as it is.
func onTerminal(tty *os.File, do func(fd int) error) error {
	conn, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := conn.Control(func(fd uintptr) { err = do(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
