// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fields lists the names in a JSON value, with dots between the levels. Lists
// are seen through.
func fields(t *testing.T, text []byte) string {
	var v any
	require.NoError(t, json.Unmarshal(text, &v), "%s", text)
	var list []string
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				list = append(list, prefix+k)
				walk(prefix+k+".", e)
			}
		case []any:
			for _, e := range v {
				walk(prefix, e)
			}
		}
	}
	walk("", v)
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// Scripts rely on these names. A new one may be added; none may change.
func TestJSONNames(t *testing.T) {
	now := time.Unix(1, 0)
	exit := isolation.ExitStatus{Known: true, Code: 137, Signal: 9, OOM: true, At: now}
	status := isolation.Status{
		ID: "a", Driver: "native", State: isolation.StateExited, Labels: map[string]string{"k": "v"}, PID: 1, PIDs: 2, Frozen: true,
		Exit: &exit, CreatedAt: now, StartedAt: now, Cgroup: "c", Missing: []string{"x"},
		Drift: []isolation.Drift{{}}, Claims: []isolation.ClaimStatus{{}},
	}
	for _, c := range []struct {
		value any
		want  string
	}{
		{status, "cgroup claims claims.holds claims.owner claims.priority claims.resources claims.until createdAt drift drift.found drift.knob drift.since drift.time drift.wanted driver exit exit.at exit.code exit.known exit.oom exit.signal frozen id labels labels.k missing pid pids startedAt state"},
		{ran{"a", exit}, "exit exit.at exit.code exit.known exit.oom exit.signal id"},
		{destroyed{"a", true}, "destroyed id"},
		{updated{"a", true, []cgroups.Change{{Old: "1", New: "2", Now: "2", Why: "w"}}},
			"changes changes.cgroup changes.controller changes.file changes.knob changes.new changes.now changes.old changes.path changes.why dryRun id"},
		{measured{"a", now, &cgroups.Stats{}}, "at id stats stats.has"},
		{cgroups.Explanation{
			Cgroup: "c", Shares: []cgroups.Share{{}}, Unseen: []string{"x"},
			Bounds: []cgroups.Bound{{Asked: cgroups.Max(), By: cgroups.Level{Group: "g"}, Levels: []cgroups.Level{{Group: "g"}}}},
		}, "bounds bounds.asked bounds.by bounds.by.group bounds.by.limit bounds.by.path bounds.by.text bounds.knob bounds.levels bounds.levels.group bounds.levels.limit bounds.levels.path bounds.levels.text bounds.limit bounds.unit cgroup shares shares.group shares.sum shares.weight unseen"},
		{report{ok, []finding{{}}}, "findings findings.follows findings.found findings.level findings.name level"},
	} {
		text, err := json.Marshal(c.value)
		require.NoError(t, err)
		assert.Equal(t, c.want, fields(t, text), "%T", c.value)
	}

	threshold := elastic.Threshold{Resource: cgroups.PressureCPU, Stall: 1, Window: 2}
	for _, c := range []struct {
		event      isolation.Event
		name, want string
	}{
		{isolation.Pressure{Time: now, Threshold: threshold, Rising: true, Throttled: cgroups.ReadingOf(time.Second)}, "pressure",
			"event id latencyNs resource rising source spanNs stallNs stalledNs throttledNs time totalNs windowNs"},
		{isolation.OOM{Time: now}, "oom", "event id kills ooms time"},
		{isolation.LimitHit{Time: now}, "limit", "count event id resource time"},
		{isolation.Drift{Time: now, Since: now, Drift: cgroups.Drift{Path: "p", Reason: "r"}, Over: true, Did: "d", Err: "e"}, "drift",
			"did error event found id knob over path reason since time wanted"},
		{isolation.Frozen{Time: now}, "frozen", "event frozen id time"},
		{isolation.Failed{Time: now, Err: errors.New("x")}, "failed", "error event id time what"},
		{isolation.Lost{N: 3}, "lost", "event id n time"},
		{isolation.Gone{Time: now}, "gone", "event id time"},
		{isolation.Exited{Status: exit}, "exit", "event exit exit.at exit.code exit.known exit.oom exit.signal id time"},
	} {
		text, err := eventJSON("a", c.event)
		require.NoError(t, err)
		assert.Equal(t, c.want, fields(t, text), "%T", c.event)
		assert.True(t, strings.HasPrefix(string(text), `{"event":"`+c.name+`","id":"a"`), "%s", text)
		assert.Equal(t, c.name, nameOf(c.event))
	}
}
