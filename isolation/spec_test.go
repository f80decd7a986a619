// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"encoding/json"
	"testing"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func full() Spec {
	return Spec{
		ID:     "web-1",
		Labels: map[string]string{"app": "web"},
		Process: Process{
			Args: []string{"/bin/true", "-x"}, Env: []string{"A=b"}, Dir: "/tmp",
			User:         User{UID: 1, GID: 2, Groups: []uint32{3}},
			Capabilities: []string{"CAP_CHOWN"},
			Rlimits:      []Rlimit{{Name: "nofile", Soft: 10, Hard: 20}},
		},
		Resources: cgroups.Resources{
			CPU:    cgroups.CPU{Weight: cgroups.WeightOf(500), Max: cgroups.CPUs(1.5)},
			Memory: cgroups.Memory{Max: cgroups.Bytes(64 << 20)},
			PIDs:   cgroups.PIDs{Max: cgroups.Count(50)},
		},
		Namespaces: Namespaces{
			User:   NamespaceNew,
			UIDMap: namespaces.IDMaps{{Inside: 0, Outside: 1000, Count: 10}},
			GIDMap: namespaces.IDMaps{{Inside: 0, Outside: 1000, Count: 10}},
		},
		Hostname:    "web",
		Controllers: cgroups.ControllersOf(cgroups.ControllerCPU, cgroups.ControllerMemory),
	}
}

func TestSpecValidates(t *testing.T) {
	require.NoError(t, full().Validate())
	require.NoError(t, Spec{ID: "a", Process: Process{Args: []string{"true"}}}.Validate())
}

func TestSpecRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Spec){
		"no program":          func(s *Spec) { s.Process.Args = nil },
		"empty program":       func(s *Spec) { s.Process.Args[0] = "" },
		"NUL in argument":     func(s *Spec) { s.Process.Args[1] = "a\x00b" },
		"NUL in environment":  func(s *Spec) { s.Process.Env = []string{"A=\x00"} },
		"nameless variable":   func(s *Spec) { s.Process.Env = []string{"=x"} },
		"no variable":         func(s *Spec) { s.Process.Env = []string{"PATH"} },
		"relative directory":  func(s *Spec) { s.Process.Dir = "tmp" },
		"uid -1":              func(s *Spec) { s.Process.User.UID = noID },
		"group -1":            func(s *Spec) { s.Process.User.Groups = []uint32{noID} },
		"unknown capability":  func(s *Spec) { s.Process.Capabilities = []string{"CAP_ROOT"} },
		"capability and all":  func(s *Spec) { s.Process.Capabilities = []string{AllCapabilities, "CAP_CHOWN"} },
		"unknown rlimit":      func(s *Spec) { s.Process.Rlimits[0].Name = "files" },
		"soft above hard":     func(s *Spec) { s.Process.Rlimits[0].Soft = 21 },
		"rlimit twice":        func(s *Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0]) },
		"hostname with NUL":   func(s *Spec) { s.Hostname = "a\x00" },
		"pid without mount":   func(s *Spec) { s.Namespaces.Mount = NamespaceHost },
		"unknown mode":        func(s *Spec) { s.Namespaces.IPC = 9 },
		"no group map":        func(s *Spec) { s.Namespaces.GIDMap = nil },
		"overlapping map":     func(s *Spec) { s.Namespaces.UIDMap = append(s.Namespaces.UIDMap, s.Namespaces.UIDMap[0]) },
		"map without its own": func(s *Spec) { s.Namespaces.User = NamespaceHost },
		"weight 0":            func(s *Spec) { s.Resources.CPU.Weight = cgroups.WeightOf(0) },
		"hostile id":          func(s *Spec) { s.ID = "../x" },
		"hostile label":       func(s *Spec) { s.Labels["a\nb"] = "" },
	} {
		s := full()
		spoil(&s)
		assert.ErrorIs(t, s.Validate(), ErrInvalid, name)
	}
}

func TestSpecReportsEverythingAtOnce(t *testing.T) {
	err := Spec{ID: "/", Hostname: "a/b", Process: Process{Dir: "x"}}.Validate()
	for _, field := range []string{"id", "hostname", "process.args", "process.dir"} {
		assert.ErrorContains(t, err, field)
	}
}

func TestSpecSurvivesJSON(t *testing.T) {
	for _, s := range []Spec{
		full(),
		{ID: "a", Process: Process{Args: []string{"x"}}},
		{ID: "a", Process: Process{Args: []string{"x"}, Capabilities: []string{}}},
	} {
		raw, err := json.Marshal(s)
		require.NoError(t, err)
		var back Spec
		require.NoError(t, json.Unmarshal(raw, &back))
		assert.True(t, s.Equal(back), "%s", raw)
		assert.Equal(t, s.Process.Capabilities == nil, back.Process.Capabilities == nil, "%s", raw)
	}
}

func TestSpecEqualAndClone(t *testing.T) {
	a, b := full(), full().Clone()
	require.True(t, a.Equal(b))
	b.Labels["app"] = "db"
	b.Process.Args[1] = "-y"
	b.Namespaces.UIDMap[0].Count = 1
	b.Process.Rlimits[0].Soft = 1
	assert.True(t, a.Equal(full()), "a clone shares nothing")
	assert.False(t, a.Equal(b))

	none, empty := full(), full()
	none.Process.Capabilities, empty.Process.Capabilities = nil, []string{}
	assert.False(t, none.Equal(empty), "no list is the default one, an empty list is none")
	none, empty = full(), full()
	none.Process.Env, empty.Process.Env = nil, []string{}
	assert.True(t, none.Equal(empty))
}

func TestCapabilitySet(t *testing.T) {
	def, err := capabilitySet(nil)
	require.NoError(t, err)
	// The mask that container runtimes show as CapEff of root: 0xa80425fb.
	assert.Equal(t, uint64(0xa80425fb), def)
	none, err := capabilitySet([]string{})
	require.NoError(t, err)
	assert.Zero(t, none)
	all, err := capabilitySet([]string{AllCapabilities})
	require.NoError(t, err)
	assert.Equal(t, ^uint64(0), all)
	last, err := capabilitySet([]string{"CAP_CHECKPOINT_RESTORE"})
	require.NoError(t, err)
	assert.Equal(t, uint64(1)<<40, last)
}

func TestKinds(t *testing.T) {
	assert.Equal(t, namespaces.KindsOf(namespaces.PID, namespaces.Mount, namespaces.IPC, namespaces.UTS, namespaces.Cgroup),
		Namespaces{}.Kinds())
	assert.Equal(t, namespaces.KindsOf(namespaces.Network),
		Namespaces{
			PID: NamespaceHost, Mount: NamespaceHost, IPC: NamespaceHost, UTS: NamespaceHost, Cgroup: NamespaceHost,
			Network: NamespaceNew,
		}.Kinds())
}

// An adopted container has a process already.
func TestSpecOfAnAdoptedContainer(t *testing.T) {
	s := Spec{ID: "db", Driver: "adopted", Labels: map[string]string{"app": "db"}}
	require.NoError(t, s.Validate())
	s.Resources.PIDs.Max = cgroups.Count(5)
	require.NoError(t, s.Validate())
	for _, change := range []func(*Spec){
		func(s *Spec) { s.Process.Args = []string{"/bin/true"} },
		func(s *Spec) { s.Hostname = "x" },
		func(s *Spec) { s.Namespaces.Network = NamespaceNew },
		func(s *Spec) { s.Controllers = cgroups.ControllersOf(cgroups.ControllerCPU) },
		func(s *Spec) { s.Labels = map[string]string{"": ""} },
	} {
		bad := s.Clone()
		change(&bad)
		require.ErrorIs(t, bad.Validate(), ErrInvalid)
	}
}
