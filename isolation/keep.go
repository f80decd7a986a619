// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"os"
)

// A Keeper keeps descriptors for the next agent.
type Keeper interface {
	// Keep keeps copies of files by a name, in the place of what is kept by it.
	Keep(ctx context.Context, c *Container, name string, files []*os.File) error
	// Kept gives copies of them.
	Kept(ctx context.Context, c *Container, name string) ([]*os.File, error)
}

// Keep leaves copies of files with the host's supervisor until the sandbox is
// destroyed, so that an agent that takes over gets them back by [Sandbox.Kept]: the
// agent's ends of the pipes that it has given to Start, a terminal, a listening
// socket. They take the place of what is kept by that name; without files nothing is
// kept by it any more.
//
// As long as the supervisor has a copy, the file is open: a process that writes to a
// pipe whose other end is kept gets no SIGPIPE, but waits when the pipe is full.
//
// A name is 1 to 64 printable ASCII characters without a slash, and not "_log"; a
// sandbox has at most 16, with at most 32 files each: [ErrInvalid]. It is [ErrNotSupported] without
// [Config.Supervisor]. What was kept is lost if the supervisor is killed.
func (s *Sandbox) Keep(ctx context.Context, name string, files ...*os.File) error {
	return s.change(ctx, "keep", func() error {
		d, ok := s.driver.(Keeper)
		if !ok {
			return s.lacks("keep")
		}
		return d.Keep(ctx, s.c, name, files)
	})
}

// Kept gives copies of what [Sandbox.Keep] has left by that name, in the same order;
// none if that is nothing. The caller closes them.
func (s *Sandbox) Kept(ctx context.Context, name string) ([]*os.File, error) {
	d, ok := s.driver.(Keeper)
	if !ok {
		return nil, wrap("kept", s.id, s.lacks("keep"))
	}
	files, err := d.Kept(ctx, s.c, name)
	return files, wrap("kept", s.id, err)
}
