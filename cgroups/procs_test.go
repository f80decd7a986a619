// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParsePIDs(t *testing.T) {
	pids, bad := parsePIDs([]int{7}, []byte("1\n0\n4194304\n"))
	assert.Equal(t, []int{7, 1, 4194304}, pids)
	assert.Empty(t, bad)
	for _, b := range []string{"x\n", "-1\n", "1 2\n", "\n", "99999999999\n"} {
		pids, bad = parsePIDs(nil, []byte("1\n"+b))
		assert.Nil(t, pids)
		assert.Equal(t, strings.TrimSuffix(b, "\n"), bad)
	}
}

func FuzzParsePIDs(f *testing.F) {
	f.Add([]byte("1\n0\n22\n"))
	f.Add([]byte("1\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pids, bad := parsePIDs(nil, b)
		if bad != "" {
			require.Nil(t, pids)
			return
		}
		for _, pid := range pids {
			require.Positive(t, pid)
			require.Contains(t, string(b), fmt.Sprint(pid))
		}
	})
}

func TestParseEvent(t *testing.T) {
	for _, tt := range []struct {
		events    string
		is, known bool
	}{
		{"populated 1\nfrozen 0\n", true, true},
		{"frozen 1\npopulated 0\n", false, true},
		{"populated 2\n", false, false},
		{"populated\n", false, false},
		{"xpopulated 1\n", false, false},
		{"", false, false},
	} {
		is, known := parseEvent(tt.events, "populated")
		assert.Equal(t, tt.is, is, tt.events)
		assert.Equal(t, tt.known, known, tt.events)
	}
}

const hybridMemberships = `9:name=systemd:/
6:cpu,cpuacct:/a:b/c
4:memory:/process/x (deleted)
0::/../other
`

func TestParseMemberships(t *testing.T) {
	all, err := parseMemberships([]byte(hybridMemberships))
	require.NoError(t, err)
	assert.Equal(t, []membership{
		{path: "/"},
		{controllers: ControllersOf(ControllerCPU, ControllerCPUAcct), path: "/a:b/c"},
		{controllers: ControllersOf(ControllerMemory), path: "/process/x (deleted)"},
		{v2: true, path: "/../other"},
	}, all)
	cpu := &hierarchy{controllers: ControllersOf(ControllerCPU, ControllerCPUAcct), root: "/a:b"}
	rel, ok := cpu.of(all, 0)
	assert.True(t, ok)
	assert.Equal(t, "c", rel)
	for _, h := range []hierarchy{
		{v2: true, root: "/a"},
		{controllers: cpu.controllers, root: ""},
		{controllers: cpu.controllers, root: "/a:b/c/d"},
		{controllers: ControllersOf(ControllerIO), root: "/"},
	} {
		_, ok := h.of(all, 0)
		assert.False(t, ok, "%+v", h)
	}
	for _, bad := range []string{"x", "1:cpu", "1:cpu:a", "::"} {
		_, err := parseMemberships([]byte(bad))
		assert.Error(t, err, bad)
	}
}

func FuzzParseMemberships(f *testing.F) {
	f.Add([]byte(hybridMemberships))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseMemberships(b)
		if err != nil {
			require.Nil(t, all)
		}
		for _, m := range all {
			require.True(t, strings.HasPrefix(m.path, "/"))
			require.False(t, m.v2 && m.controllers != 0)
		}
	})
}

func TestRemainingError(t *testing.T) {
	e := &RemainingError{Path: "a", Err: assert.AnError, Processes: []Process{
		{PID: 1, Name: "cat", State: "D", Wchan: "folio_wait"}, {PID: 2},
	}, Groups: []string{"/x/a", "/x/a/b"}}
	assert.EqualError(t, e, "a: "+assert.AnError.Error()+"; remaining processes: 1 (cat) D in folio_wait, 2; remaining groups: /x/a, /x/a/b")
	for range 100 {
		e.Processes = append(e.Processes, Process{PID: 3})
	}
	assert.Contains(t, e.Error(), "2, 3, 3, 3, 3, 3, 3, and 94 more")
	require.ErrorIs(t, e, assert.AnError)
}
