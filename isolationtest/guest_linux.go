// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// guest is a sandbox of the experiment.
type guest struct {
	box    *isolation.Sandbox
	stderr *os.File // a file without a name

	ended chan struct{} // closed when it has ended; then exit or err is set
	exit  isolation.ExitStatus
	err   error

	forget context.CancelFunc // ends what waits for that
	over   chan struct{}      // closed when nothing does any more
}

// enter makes a sandbox and starts it.
func enter(ctx context.Context, h *isolation.Host, spec isolation.Spec, stdout *os.File) (*guest, error) {
	stderr, err := os.CreateTemp("", "caisson-stderr-")
	if err != nil {
		return nil, err
	}
	g := &guest{stderr: stderr, ended: make(chan struct{}), over: make(chan struct{})}
	if err := os.Remove(stderr.Name()); err != nil {
		return nil, errors.Join(err, stderr.Close())
	}
	if _, err := h.Check(ctx, spec.ID); !errors.Is(err, isolation.ErrNotFound) {
		return nil, errors.Join(fmt.Errorf("there is a sandbox %q already", spec.ID), err, stderr.Close())
	}
	if g.box, err = h.Create(ctx, spec); err != nil {
		return nil, errors.Join(err, stderr.Close())
	}
	waiting, forget := context.WithCancel(context.WithoutCancel(ctx))
	g.forget = forget
	if err := g.box.Start(ctx, nil, stdout, stderr); err != nil {
		close(g.over)
		return nil, errors.Join(err, g.destroy())
	}
	go func() {
		defer close(g.over)
		g.exit, g.err = g.box.Wait(waiting)
		if !errors.Is(g.err, isolation.ErrNotSupported) { // a driver may not know
			close(g.ended)
		}
	}()
	return g, nil
}

// destroy ends it, if it has not ended.
func (g *guest) destroy() error {
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(patience))
	defer cancel()
	err := g.box.Destroy(ctx)
	g.forget()
	<-g.over
	return errors.Join(err, g.stderr.Close())
}

// end says how it ended, with the last that it wrote.
func (g *guest) end() error {
	text := make([]byte, 2048)
	size, _ := g.stderr.Seek(0, io.SeekEnd)
	n, _ := g.stderr.ReadAt(text, max(0, size-int64(len(text))))
	err := g.err
	if err == nil {
		err = fmt.Errorf("it ended too soon: %v", g.exit)
	}
	if n > 0 {
		err = fmt.Errorf("%w; it wrote:\n%s", err, text[:n])
	}
	return fmt.Errorf("%s: %w", g.box.ID(), err)
}

// used is the CPU time that it has used, in seconds; NaN if nobody counts that.
func (g *guest) used() (float64, error) {
	var st cgroups.Stats
	if err := g.box.Stat(&st); errors.Is(err, isolation.ErrNotSupported) {
		return math.NaN(), nil
	} else if err != nil {
		return 0, err
	}
	if d, ok := st.CPU.Usage.Value(); ok {
		return d.Seconds(), nil
	}
	return math.NaN(), nil
}
