// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/sys"
)

// newTicket is for one launch, see launch.Spec: the child takes it in front of its
// program, or we do when nobody tells us of the child any more. The kernel gives it
// to one of the two.
func newTicket() (*sys.FD, error) {
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd2", err)
	}
	return sys.NewFD(fd), nil
}

// takeBack is err, of a launch that nobody tells of. Where the ticket is ours that
// did not come to its program and never will: as if there had been no supervisor, if
// it is that which has ended.
func takeBack(ticket *sys.FD, err error) error {
	if n, terr := sys.DrainEventFD(ticket); terr != nil || n == 0 {
		return errors.Join(err, ErrLost, terr)
	}
	if errors.Is(err, ErrGone) {
		return ErrNone
	}
	return err
}
