// SPDX-License-Identifier: Apache-2.0

//go:build !linux || (!amd64 && !arm64)

package supervise

import (
	"context"
	"os"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
)

var errOther = &feature.UnsupportedError{Feature: "supervisor", Reason: "only Linux on amd64 and arm64"}

// Inherited returns ErrNotSupported.
func Inherited() (*os.File, string, error) { return nil, "", errOther }

// Serve returns ErrNotSupported.
func Serve(context.Context, *os.File, string) error { return errOther }

// Client is an agent's way to a supervisor; here there is none.
type Client struct{}

// NewClient is a client of nobody.
func NewClient(string) *Client { return &Client{} }

// Connect returns [ErrNone], as every other request does.
func (*Client) Connect(context.Context) (int, *sys.FD, error) { return 0, nil, ErrNone }

// Start returns ErrNotSupported.
func (*Client) Start(context.Context, []string, launch.Spec) (*launch.Child, error) {
	return nil, errOther
}

// Launch returns ErrNotSupported.
func (*Client) Launch(context.Context, string, *launch.Spec, int) (*launch.Child, Process, error) {
	return nil, Process{}, errOther
}

// Find is [ErrNone].
func (*Client) Find(context.Context, string) (Process, error) { return Process{}, ErrNone }

// Exit is [ErrUnknown].
func (*Client) Exit(context.Context, string, Process) (Exit, error) { return Exit{}, ErrUnknown }

// Ack is nil.
func (*Client) Ack(context.Context, string, Process) error { return nil }

// Forget is nil.
func (*Client) Forget(context.Context, string) error { return nil }

// Keep is [ErrNone].
func (*Client) Keep(context.Context, string, string, []int) error { return ErrNone }

// Kept is [ErrNone].
func (*Client) Kept(context.Context, string, string) ([]int, error) { return nil, ErrNone }

// List is nothing.
func (*Client) List(context.Context) ([]Entry, error) { return nil, nil }

// Further is nothing.
func (*Client) Further(context.Context, string) ([]Entry, error) { return nil, nil }

// Remove is nil.
func (*Client) Remove(context.Context) error { return nil }

// Close is nil.
func (*Client) Close() error { return nil }

// Patient is ctx, which ends after a while at the latest.
func Patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 10*time.Second)
}
