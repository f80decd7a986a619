// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// meddled is a sandbox whose limit of processes somebody else changes.
type meddled struct {
	*isolation.Sandbox
	t      *testing.T
	file   string
	drifts chan isolation.Drift
}

func meddle(t *testing.T, p isolation.DriftPolicy) (*isolation.Host, *meddled) {
	t.Helper()
	cfg := config(t)
	testutil.CheckLeaks(t)
	cfg.Drift = p
	h := openWith(t, cfg)
	return h, &meddled{t: t, file: pidsFile(t, h), Sandbox: create(t, h, isolation.Spec{
		ID: "web", Process: isolation.Process{Args: []string{"/bin/true"}},
		Resources: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}},
	})}
}

// pidsFile is where the limit of sandbox web is.
func pidsFile(t *testing.T, h *isolation.Host) string {
	t.Helper()
	top, _, ok := h.Root().Where(cgroups.ControllerPIDs)
	if !ok {
		testutil.Skip(t, testutil.Cgroup2("pids"), "no hierarchy has it")
	}
	return filepath.Join(top, h.Parent().Path(), "web", "pids.max")
}

func (m *meddled) write(text string) {
	m.t.Helper()
	require.NoError(m.t, os.WriteFile(m.file, []byte(text), 0))
}

func (m *meddled) holds() string {
	m.t.Helper()
	b, err := os.ReadFile(m.file)
	require.NoError(m.t, err)
	return strings.TrimSpace(string(b))
}

// watch collects the drift events from now on, until the test ends.
func (m *meddled) watch() {
	m.drifts = make(chan isolation.Drift, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ev, err := range m.Watch(ctx) {
			if d, ok := ev.(isolation.Drift); ok && err == nil {
				m.drifts <- d
			}
		}
	}()
	m.t.Cleanup(func() { cancel(); <-done })
}

func (m *meddled) next() isolation.Drift {
	m.t.Helper()
	select {
	case d := <-m.drifts:
		return d
	case <-time.After(testutil.Patience(20 * time.Second)):
		require.Fail(m.t, "no drift was told")
	}
	return isolation.Drift{}
}

func (m *meddled) check() []isolation.Drift {
	m.t.Helper()
	st, err := m.Check(deadline(m.t))
	require.NoError(m.t, err)
	return st.Drift
}

func TestDriftReport(t *testing.T) {
	_, m := meddle(t, isolation.DriftReport)
	assert.Empty(t, m.check())
	m.write("60")
	found := m.check()
	require.Len(t, found, 1, "without anybody watching")
	assert.Equal(t, cgroups.Drift{Knob: "pids.max", Path: m.file, Wanted: "50", Found: "60"}, found[0].Drift)

	m.watch()
	first := m.next()
	assert.Equal(t, "60", first.Found)
	assert.Equal(t, first.Since, m.check()[0].Since, "it is known since then")
	m.write("50")
	d := m.next()
	assert.True(t, d.Over)
	assert.Empty(t, m.check())

	_, err := m.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}})
	require.NoError(t, err)
	assert.Empty(t, m.check(), "our own change is none")
	m.write("80")
	d = m.next()
	assert.Equal(t, "80", d.Found)
	assert.Equal(t, "70", d.Wanted)
	assert.Empty(t, d.Did)
	assert.Equal(t, "80", m.holds())
}

// TestDriftReapply is a daemon-reload that takes a limit back (fault 38).
func TestDriftReapply(t *testing.T) {
	_, m := meddle(t, isolation.DriftReapply)
	m.watch()
	m.write("max")
	d := m.next()
	for d.Did == "" {
		d = m.next()
	}
	assert.Equal(t, "reapplied", d.Did)
	assert.Equal(t, "50", m.holds())
	assert.Empty(t, m.check())
}

func TestDriftAccept(t *testing.T) {
	h, m := meddle(t, isolation.DriftAccept)
	m.watch()
	m.write("60")
	assert.Equal(t, "accepted", m.next().Did)
	assert.Equal(t, "60", m.holds())
	assert.Empty(t, m.check())
	s, err := h.Sandbox(deadline(t), "web")
	require.NoError(t, err)
	assert.Equal(t, cgroups.Count(60), s.Spec().Resources.PIDs.Max)
}

// TestDriftShared: what another process of ours changed is no drift.
func TestDriftShared(t *testing.T) {
	cfg := config(t)
	testutil.CheckLeaks(t)
	cfg.Shared = true
	h := openWith(t, cfg)
	file := pidsFile(t, h)
	s := create(t, h, isolation.Spec{
		ID: "web", Process: isolation.Process{Args: []string{"/bin/true"}},
		Resources: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(50)}},
	})
	other, err := isolation.Open(context.Background(), cfg)
	require.NoError(t, err)
	defer other.Close()
	same, err := other.Sandbox(deadline(t), "web")
	require.NoError(t, err)
	_, err = same.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(t, err)
	st, err := s.Check(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, st.Drift)
	require.NoError(t, os.WriteFile(file, []byte("70"), 0))
	st, err = s.Check(deadline(t))
	require.NoError(t, err)
	require.Len(t, st.Drift, 1)
	assert.Equal(t, "60", st.Drift[0].Wanted)
}

func TestConfigIsChecked(t *testing.T) {
	for what, cfg := range map[string]isolation.Config{
		`drift "policy(7)"`:     {Root: t.TempDir(), Drift: 7},
		`root "state"`:          {Root: "state"},
		`logs "logs"`:           {Root: t.TempDir(), Logs: "logs"},
		`supervisor "reaper"`:   {Root: t.TempDir(), Supervisor: []string{"reaper"}},
		`parent "/kubepods/me"`: {Root: t.TempDir(), Parent: "/kubepods/me"},
	} {
		_, err := isolation.Open(context.Background(), cfg)
		require.ErrorIs(t, err, isolation.ErrInvalid)
		assert.ErrorContains(t, err, what)
	}
	assert.Equal(t, "policy(7)", isolation.DriftPolicy(7).String())
	assert.Equal(t, "accept", isolation.DriftAccept.String())
}
