// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	errCut  = errors.New("the test ends the context here")
	errDies = errors.New("the test ends the agent here")
)

// ending is a context that ends when it is looked at for the left-th time.
type ending struct {
	context.Context
	end  context.CancelCauseFunc
	left atomic.Int64
}

func (e *ending) look() {
	if e.left.Add(-1) == 0 {
		e.end(errCut)
	}
}

func (e *ending) cut() bool { return e.left.Load() <= 0 }

// Done counts as a look.
func (e *ending) Done() <-chan struct{} {
	e.look()
	return e.Context.Done()
}

// Err counts as a look.
func (e *ending) Err() error {
	e.look()
	return e.Context.Err()
}

// cancelling calls do with contexts that end at the first look, at the second and
// so on, until do says that it was not cut off. On an emulated machine, where each
// takes long, two of three are left out beyond the fourth.
func (s *stand) cancelling(do func(ctx *ending) (done bool)) {
	s.Helper()
	const most = 200
	step := int64(1)
	for looks := step; looks <= most; looks += step {
		if testutil.Emulated() && looks > 3 {
			step = 3
		}
		inner, end := context.WithCancelCause(s.ctx())
		ctx := &ending{Context: inner, end: end}
		ctx.left.Store(looks)
		done := do(ctx)
		end(nil)
		if done || s.Failed() {
			return
		}
	}
	require.FailNow(s, "the driver looks at its context without end")
}

// wasCut wants the error to be that of a context that has ended.
func (s *stand) wasCut(err error) {
	s.Helper()
	if !errors.Is(err, errCut) {
		assert.ErrorIs(s, err, context.Canceled)
	}
}

// rather skips the part, as one for which the driver is not made.
func (s *stand) rather(ok bool, why string) {
	s.Helper()
	if !ok {
		testutil.Skip(s.TB, noInterface, "%s", why)
	}
}

// dying is a driver whose agent ends right after Create.
type dying struct{ isolation.Driver }

func (d dying) Create(ctx context.Context, c *isolation.Container) error {
	if err := d.Driver.Create(ctx, c); err != nil {
		return err
	}
	panic(errDies)
}

// Release passes on that the host is closed.
func (d dying) Release(c *isolation.Container) error {
	if r, ok := d.Driver.(isolation.Releaser); ok {
		return r.Release(c)
	}
	return nil
}
