// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// attempts bounds how often an interrupted request is repeated. Each takes the
// kernel some 50 us; lists that change all that time are no state to report.
const attempts = 20

// do runs f on the socket in a goroutine of its own, which ends by itself if ctx
// or the handle ends first. f must be safe to repeat, and must hand out its
// findings as its result only.
func do[T any](ctx context.Context, h *Handle, op, link string, f func(*netlink.Handle) (T, error)) (T, error) {
	return once(ctx, h, op, link, func(socket *netlink.Handle) (T, error) {
		return repeat(ctx, func() (T, error) { return f(socket) })
	})
}

// once is do for an f that cannot be repeated: one that changes several things.
// It must end soon after ctx does.
func once[T any](ctx context.Context, h *Handle, op, link string, f func(*netlink.Handle) (T, error)) (T, error) {
	var zero T
	fail := func(err error) (T, error) { return zero, &OpError{Op: op, Link: link, NS: h.id, Err: err} }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	select {
	case <-h.closed: // rather than a turn, if there are both
		return fail(os.ErrClosed)
	default:
	}
	select {
	case <-h.closed:
		return fail(os.ErrClosed)
	case <-ctx.Done():
		return fail(ctx.Err())
	case h.turn <- struct{}{}:
	}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		defer h.release()
		value, err := f(h.socket)
		done <- outcome{value, err}
	}()
	select {
	case <-h.closed:
		return fail(os.ErrClosed)
	case <-ctx.Done():
		return fail(ctx.Err())
	case o := <-done:
		if o.err != nil {
			return fail(explain(o.err))
		}
		return o.value, nil
	}
}

// repeat calls f until it is not interrupted: NLM_F_DUMP_INTR in a list, which
// the library reports as an error that matches EINTR, or a signal.
func repeat[T any](ctx context.Context, f func() (T, error)) (value T, err error) {
	var zero T
	for range attempts {
		if err := ctx.Err(); err != nil {
			return zero, err
		}
		if value, err = f(); err == nil {
			return value, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return zero, err
		}
	}
	return zero, ErrInterrupted
}

// explain gives the library's and the kernel's ways to say that a link does not
// exist one meaning.
func explain(err error) error {
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) || errors.Is(err, syscall.ENODEV) {
		return noLink{}
	}
	return err
}

// noKind says that the kernel does not know a kind of link, queue or rule, where
// err means that.
func noKind(kind string, err error) error {
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOENT) {
		return &namespaces.UnsupportedError{Feature: kind, Reason: "this kernel has none, or lacks its module", Err: err}
	}
	return err
}
