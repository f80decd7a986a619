// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/caisson-run/caisson/isolation"
)

// onTerminal starts a program on a terminal of its own: what is typed here is typed
// there, what is printed there is printed here, and it is as large as this one.
// screen returns when the program has ended and all is printed.
func (a *app) onTerminal(start func(files ...*os.File) error) (screen func() error, err error) {
	term, err := isolation.NewTerminal()
	if err != nil {
		return nil, err
	}
	if err = term.ResizeLike(a.stdin); err == nil {
		err = start(term.TTY(), term.TTY(), term.TTY())
	}
	if err = errors.Join(err, term.Started()); err != nil {
		return nil, errors.Join(err, term.Close())
	}
	restore, err := isolation.MakeRaw(a.stdin)
	if err != nil { // it is none
		restore = func() error { return nil }
	}
	sizes := make(chan os.Signal, 1)
	signal.Notify(sizes, syscall.SIGWINCH)
	go func() {
		for range sizes {
			_ = term.ResizeLike(a.stdin) // the next one may work
		}
	}()
	go func() { // until this program ends
		const endOfText = 4 // ^D
		if _, err := io.Copy(term, a.stdin); err == nil {
			_, _ = term.Write([]byte{endOfText})
		}
	}()
	return func() error {
		_, err := io.Copy(a.stdout, term)
		signal.Stop(sizes)
		close(sizes)
		return errors.Join(err, restore(), term.Close())
	}, nil
}
