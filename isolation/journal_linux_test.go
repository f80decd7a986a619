// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// events are the journal's entries, which have to be numbered without a gap.
func events(t *testing.T, h *isolation.Host) (all []isolation.JournalEntry) {
	t.Helper()
	for e, err := range h.Journal() {
		require.NoError(t, err)
		if len(all) > 0 {
			require.Equal(t, all[len(all)-1].Seq+1, e.Seq)
		}
		all = append(all, e)
	}
	return all
}

func journaled(all []isolation.JournalEntry) (names []string) {
	for _, e := range all {
		names = append(names, e.ID+" "+e.Event)
	}
	return names
}

func TestJournal(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	cfg.Journal = 1 << 20
	h := must(isolation.Open(deadline(t), cfg))
	box := create(t, h, spec(t, "web", "exit", "3"))
	_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(60)}})
	require.NoError(t, err)
	require.NoError(t, box.Start(deadline(t)))
	_, err = box.Wait(deadline(t))
	require.NoError(t, err)
	require.NoError(t, h.Close())

	// The next agent's, after a line that the first could not finish.
	f := must(os.OpenFile(filepath.Join(cfg.Root, "events"), os.O_WRONLY|os.O_APPEND, 0))
	must(f.WriteString(`{"seq":7,"time":`))
	require.NoError(t, f.Close())
	h = openWith(t, cfg)
	require.NoError(t, h.Destroy(deadline(t), "web"))
	require.NoError(t, h.Destroy(deadline(t), "web"), "which is no event")
	all := events(t, h)
	require.Equal(t, []string{"web create", "web update", "web start", "web exit", "web recover", "web destroy"}, journaled(all))
	assert.Equal(t, uint64(1), all[0].Seq)
	require.NotEmpty(t, all[1].Changes)
	assert.Equal(t, "60", all[1].Changes[0].New)
	assert.Equal(t, 3, all[3].Exit.Code)
	assert.Contains(t, all[4].Reason, "adopted: it is whole")
}

func TestJournalIsBounded(t *testing.T) {
	testutil.Require(t, testutil.Real)
	cfg := config(t)
	cfg.Journal = 4096
	h := openWith(t, cfg)
	box := started(t, h, spec(t, "web", "wait"))
	for range 40 {
		require.NoError(t, box.Freeze(deadline(t)))
		require.NoError(t, box.Thaw(deadline(t)))
	}
	all := events(t, h)
	assert.Equal(t, uint64(82), all[len(all)-1].Seq)
	assert.Less(t, len(all), 82)
	assert.Greater(t, len(all), 15)
	var size int64
	for _, name := range []string{"events", "events.1"} {
		size += must(os.Stat(filepath.Join(cfg.Root, name))).Size()
	}
	assert.LessOrEqual(t, size, int64(4096))
	cfg.Journal = 1
	cfg.Root = t.TempDir() + "/other"
	_, err := isolation.Open(deadline(t), cfg)
	require.ErrorIs(t, err, isolation.ErrInvalid)
}

// Several processes write to one journal, in an order that all of them see.
func TestJournalIsShared(t *testing.T) {
	cfg := config(t)
	cfg.Shared, cfg.Journal = true, 16384
	hosts := []*isolation.Host{openWith(t, cfg), must(isolation.Open(deadline(t), cfg))}
	defer hosts[1].Close()
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			for n := range 12 {
				s := spec(t, fmt.Sprintf("box-%d-%d", i, n), "wait")
				s.Controllers = cgroups.ControllersOf(cgroups.ControllerPIDs)
				if _, err := h.Create(deadline(t), s); assert.NoError(t, err) {
					assert.NoError(t, h.Destroy(deadline(t), s.ID))
				}
			}
		})
	}
	wg.Wait()
	all := events(t, hosts[0])
	assert.Equal(t, uint64(48), all[len(all)-1].Seq)
}

// The end of a container that was adopted is told once, also if no agent saw it.
func TestJournalOfAdopted(t *testing.T) {
	for name, seen := range map[string]bool{"seen": true, "missed": false} {
		t.Run(name, func(t *testing.T) {
			c := foreign(t)
			cmd := c.start(t)
			cfg := config(t)
			cfg.Journal = 1 << 20
			h := must(isolation.Open(deadline(t), cfg))
			adopt(t, h, "db", isolation.PID(cmd.Process.Pid))
			end := func() {
				require.NoError(t, c.Kill(deadline(t)))
				_ = cmd.Wait()
			}
			if seen {
				end()
				require.Eventually(t, func() bool { return len(events(t, h)) == 2 }, testutil.Patience(10*time.Second), time.Millisecond)
				// Written down before the next look.
				record := filepath.Join(cfg.Root, "sandboxes", "db.state")
				require.Eventually(t, func() bool {
					return strings.Contains(string(must(os.ReadFile(record))), `"ended":true`)
				}, testutil.Patience(10*time.Second), time.Millisecond)
			}
			require.NoError(t, h.Close())
			if !seen {
				end()
			}
			for range 2 {
				h = must(isolation.Open(deadline(t), cfg))
				require.NoError(t, h.Close())
			}
			h = openWith(t, cfg)
			n := 0
			for _, e := range events(t, h) {
				if e.Event == "exit" {
					n++
					require.NotNil(t, e.Exit)
					assert.False(t, e.Exit.Known, "only its parent knows")
				}
			}
			assert.Equal(t, 1, n)
		})
	}
}

// guard is a policy that freezes the sandbox called hog, and then kills it.
type guard struct{ frozen bool }

func (*guard) Name() string { return "guard" }
func (*guard) Levers() []elastic.Lever {
	return []elastic.Lever{{Class: elastic.BestEffort, Knob: elastic.KnobFreeze}, {Class: elastic.BestEffort, Knob: elastic.KnobKill}}
}
func (g *guard) Decide(*elastic.Snapshot) []elastic.Correction {
	c := elastic.Correction{Policy: "guard", Sandbox: "hog", Rung: elastic.Freeze, Reason: "it takes too much"}
	if g.frozen {
		c.Rung = elastic.Kill
	}
	g.frozen = true
	return []elastic.Correction{c}
}

// What a controller does to a sandbox is in the journal, with its reason.
func TestJournalOfCorrections(t *testing.T) {
	cfg := config(t)
	cfg.Journal = 1 << 20
	h := openWith(t, cfg)
	s := spec(t, "hog", "wait")
	s.Class = elastic.BestEffort
	box := started(t, h, s)
	var made []elastic.Decision
	ctl, err := elastic.New(h, elastic.Config{
		Policies:   []elastic.Policy{&guard{}},
		OnDecision: func(d elastic.Decision) { made = append(made, d) },
	})
	require.NoError(t, err)
	for i := range 2 {
		require.NoError(t, ctl.Step(deadline(t)))
		require.Len(t, made, i+1)
		require.Equal(t, elastic.Made, made[i].State, made[i].Why)
	}
	_, err = box.Wait(deadline(t))
	require.NoError(t, err)
	var told []string
	for _, e := range events(t, h) {
		if e.Event != "exit" { // which may come between
			told = append(told, strings.TrimSpace(e.Event+" "+e.Reason))
		}
	}
	assert.Equal(t, []string{
		"create", "start", "freeze", "correction guard: freeze hog: it takes too much",
		"kill", "correction guard: kill hog: it takes too much",
	}, told)
}
