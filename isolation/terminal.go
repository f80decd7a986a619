// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/internal/sys"
)

// Terminal is a pseudoterminal for a process of a sandbox. What is written to it
// is typed, and what is read from it is what the process prints.
//
//	term, err := isolation.NewTerminal()
//	err = sandbox.Start(ctx, term.TTY(), term.TTY(), term.TTY()) // Process.Terminal is set
//	err = term.Started()
//
// It is one of the machine's: /dev/pts of the sandbox does not show it.
type Terminal struct {
	pty *os.File

	mu  sync.Mutex
	tty *os.File
}

// NewTerminal opens a pseudoterminal. The caller closes it.
func NewTerminal() (*Terminal, error) {
	pty, tty, err := sys.OpenPTY()
	if err != nil {
		return nil, err
	}
	return &Terminal{pty: pty, tty: tty}, nil
}

// TerminalOf is a terminal again that [Sandbox.Kept] has given back: what PTY was.
// It owns the file.
func TerminalOf(pty *os.File) *Terminal { return &Terminal{pty: pty} }

// PTY is the caller's end, for [Sandbox.Keep]: so that the process is not hung up on
// when its agent ends. It is the terminal's: do not close it.
func (t *Terminal) PTY() *os.File { return t.pty }

// TTY is the end for the process; nil after Started or Close.
func (t *Terminal) TTY() *os.File {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tty
}

// Started closes the end of the process, which has its own by now: so that Read
// ends when it does.
func (t *Terminal) Started() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.tty.Close()
	t.tty = nil
	if errors.Is(err, os.ErrInvalid) {
		return nil // done before
	}
	return err
}

// Read reads what the process prints, until nobody has its end: [io.EOF].
func (t *Terminal) Read(p []byte) (int, error) {
	n, err := t.pty.Read(p)
	if sys.HungUp(err) {
		err = io.EOF
	}
	return n, err
}

// Write types.
func (t *Terminal) Write(p []byte) (int, error) { return t.pty.Write(p) }

// Resize says how large the terminal is, in characters. The process is told by
// SIGWINCH.
func (t *Terminal) Resize(rows, columns int) error {
	if rows < 0 || rows > math.MaxUint16 || columns < 0 || columns > math.MaxUint16 {
		return &InvalidError{Field: "terminal", Value: fmt.Sprintf("%dx%d", columns, rows), Reason: "not 0 to 65535 each"}
	}
	return sys.ResizePTY(t.pty, uint16(rows), uint16(columns))
}

// ResizeLike gives it the size of another terminal, such as the caller's own. A file
// that is none changes nothing.
func (t *Terminal) ResizeLike(other *os.File) error {
	rows, columns, err := sys.TerminalSize(other)
	if errors.Is(err, syscall.ENOTTY) {
		return nil
	}
	if err != nil {
		return err
	}
	return sys.ResizePTY(t.pty, rows, columns)
}

// MakeRaw has a terminal, such as the caller's own with a [Terminal] behind it, pass
// on every key and print every byte as it is: the one behind interprets them. restore
// makes it what it was. A file that is none is ENOTTY.
func MakeRaw(tty *os.File) (restore func() error, err error) { return sys.RawTerminal(tty) }

// Close hangs up. Closing twice is nil.
func (t *Terminal) Close() error {
	err := t.Started()
	if cerr := t.pty.Close(); !errors.Is(cerr, os.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}
