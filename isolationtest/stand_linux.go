// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stand is where one part of the suite runs: a host with the driver, and what is
// known of both.
type stand struct {
	testing.TB
	open   func(testing.TB, Place) isolation.Driver
	opt    DriverOptions
	at     Place
	cfg    isolation.Config
	driver isolation.Driver // nil: the native one
	host   *isolation.Host
	token  string // in the arguments of every workload
}

// tested is the name of the driver under test on the hosts of the suite.
const tested = "tested"

// newStand opens a host. When the part is over everything of it is destroyed, and
// what is left then is a failure.
func newStand(t testing.TB, open func(testing.TB, Place) isolation.Driver, opt DriverOptions) *stand {
	t.Helper()
	dir := t.TempDir()
	s := &stand{TB: t, open: open, opt: opt, token: strings.ToLower(rand.Text()[:16])}
	s.at = Place{Dir: filepath.Join(dir, "driver"), Parent: testutil.CgroupName(t)}
	require.NoError(t, os.Mkdir(s.at.Dir, 0o700))
	s.cfg = isolation.Config{Root: filepath.Join(dir, "state"), Parent: s.at.Parent}
	s.reopen()
	t.Cleanup(s.finish)
	return s
}

// reopen closes the host and opens another one, with another driver, as an agent
// does that was restarted.
func (s *stand) reopen() {
	s.Helper()
	if s.host != nil {
		require.NoError(s, s.host.Close())
	}
	s.driver = s.open(s.TB, s.at)
	s.reopenWith(s.driver)
}

func (s *stand) reopenWith(d isolation.Driver) {
	s.Helper()
	cfg := s.cfg
	if d != nil {
		cfg.Drivers = map[string]isolation.Driver{tested: d}
	}
	h, err := isolation.Open(s.ctx(), cfg)
	require.NoError(s, err)
	s.host = h
}

func (s *stand) finish() {
	for box := range s.host.Sandboxes(nil) {
		assert.NoError(s, box.Destroy(s.ctx()), "destroy %s at the end", box.ID())
	}
	s.nothingRuns()
	_ = filepath.WalkDir(s.at.Dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, s.at.Dir)
		assert.False(s, strings.Contains(name, idPrefix), "%s was left in the driver's directory", name)
		return err
	})
	assert.NoError(s, s.host.Remove(s.ctx()))
	assert.NoError(s, s.host.Close())
}

// ctx bounds one operation. It says nothing about speed.
func (s *stand) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(20*time.Second))
	s.Cleanup(cancel)
	return ctx
}

// idPrefix is in the id of every sandbox, so that files that are named after one
// are known.
const idPrefix = "conform"

// spec is a sandbox whose process does what the workload of that name does.
func (s *stand) spec(name, does string, args ...string) isolation.Spec {
	s.Helper()
	program := s.opt.Program
	if program == "" {
		var err error
		program, err = os.Executable()
		require.NoError(s, err)
	}
	spec := isolation.Spec{
		ID:      idPrefix + name,
		Process: isolation.Process{Args: append([]string{program, mark, s.token, does}, args...)},
	}
	if s.driver != nil {
		spec.Driver = tested
	}
	if s.opt.Adapt != nil {
		s.opt.Adapt(s.TB, &spec)
	}
	return spec
}

// create makes a sandbox.
func (s *stand) create(spec isolation.Spec) *isolation.Sandbox {
	s.Helper()
	box, err := s.host.Create(s.ctx(), spec)
	require.NoError(s, err)
	return box
}

// starts reports whether it takes a Start to have the process run.
func (s *stand) starts() bool { return starter.has(s.driver) }

// run makes a sandbox whose process runs.
func (s *stand) run(spec isolation.Spec) *isolation.Sandbox {
	s.Helper()
	box := s.create(spec)
	if s.starts() {
		require.NoError(s, box.Start(s.ctx()))
	}
	return box
}

// running makes a sandbox and waits until n processes of it have begun their work.
func (s *stand) running(n int, spec isolation.Spec) *isolation.Sandbox {
	s.Helper()
	box := s.run(spec)
	s.eventually(func() bool { return len(s.processes()) >= n }, "%d processes of %s", n, spec.ID)
	return box
}

// check is what the host says of the sandbox.
func (s *stand) check(box *isolation.Sandbox) isolation.Status {
	s.Helper()
	st, err := box.Check(s.ctx())
	require.NoError(s, err)
	return st
}

// ended waits until Check says that the process has ended.
func (s *stand) ended(box *isolation.Sandbox) isolation.Status {
	s.Helper()
	var st isolation.Status
	s.eventually(func() bool { st = s.check(box); return st.State == isolation.StateExited }, "the end of %s", box.ID())
	return st
}

// absent holds the host to there being no sandbox, and the machine to there being
// no process.
func (s *stand) absent(id string) {
	s.Helper()
	_, err := s.host.Check(s.ctx(), id)
	assert.ErrorIs(s, err, isolation.ErrNotFound)
	s.nothingRuns()
}

// nothingRuns wants the processes of all sandboxes to be gone.
func (s *stand) nothingRuns() {
	s.Helper()
	assert.Empty(s, s.processes(), "processes are left")
}

// destroyed ends a sandbox and looks that nothing of it is left.
func (s *stand) destroyed(box *isolation.Sandbox) {
	s.Helper()
	require.NoError(s, s.host.Destroy(s.ctx(), box.ID()))
	s.absent(box.ID())
	s.noGroup(box.ID())
	assert.NoError(s, s.host.Destroy(s.ctx(), box.ID()), "destroy once more")
	assert.NoError(s, box.Destroy(s.ctx()), "destroy once more")
}

// eventually waits for what is to come by itself.
func (s *stand) eventually(done func() bool, what string, args ...any) {
	s.Helper()
	limit := time.After(testutil.Patience(20 * time.Second))
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-limit:
			require.FailNow(s, "waited in vain for "+fmt.Sprintf(what, args...))
		}
	}
}
