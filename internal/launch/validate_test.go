// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"math"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	ok := []IDMap{{0, 1000, 1}}
	umask := uint32(0o1777)
	adj := 1001
	for _, tt := range []struct {
		field string
		spec  Spec
	}{
		{"Path", Spec{}},
		{"Path", Spec{Path: "true"}},
		{"Path", Spec{Path: "/bin/\x00true"}},
		{"Args", Spec{Args: []string{}}},
		{"Args[1]", Spec{Args: []string{"a", "b\x00"}}},
		{"Args[0]", Spec{Args: []string{strings.Repeat("x", 1<<17)}}},
		{"Env[0]", Spec{Env: []string{"A=\x00"}}},
		{"Args and Env", Spec{Env: strings.SplitAfter(strings.Repeat("x", 7<<20), strings.Repeat("x", 1<<16))}},
		{"Dir", Spec{Dir: "\x00"}},
		{"Files[1]", Spec{Files: []int{0, -2}}},
		{"Files[0]", Spec{Files: []int{math.MaxInt}}},
		{"Cgroup", Spec{Cgroup: &File{FD: -1}}},
		{"Tasks[0]", Spec{Tasks: []File{{FD: -1}}}},
		{"OOMScoreAdj", Spec{OOMScoreAdj: &adj}},
		{"Namespaces", Spec{Namespaces: 1}},
		{"Join[0]", Spec{Join: []Join{{File{FD: -1}, NewNet}}}},
		{"Join[0]", Spec{Join: []Join{{File{FD: 3}, 0}}}},
		{"Join[0]", Spec{Join: []Join{{File{FD: 3}, NewNet | NewPID}}}},
		{"Join[0]", Spec{Join: []Join{{File{FD: 3}, NewPID}}, Namespaces: NewUser}},
		{"Join[0]", Spec{Join: []Join{{File{FD: 3}, NewTime}}}},
		{"Join[0]", Spec{Join: []Join{{File{FD: 3}, NewNet}}, Namespaces: NewNet}},
		{"Monotonic", Spec{Monotonic: math.MinInt64, Namespaces: NewTime}},
		{"Monotonic or Boottime", Spec{Boottime: 1}},
		{"Hostname or Domainname", Spec{Hostname: "a"}},
		{"Hostname", Spec{Hostname: strings.Repeat("x", 65), Namespaces: NewUTS}},
		{"Domainname", Spec{Domainname: "a\x00", Namespaces: NewUTS}},
		{"Mounts", Spec{Mounts: []Mount{{Target: "/"}}}},
		{"Mounts[0].Target", Spec{Mounts: []Mount{{}}, Namespaces: NewMount}},
		{"Mounts[0]", Spec{Mounts: []Mount{{Target: "/", Type: "\x00"}}, Namespaces: NewMount}},
		{"Mounts[0].Data", Spec{Mounts: []Mount{{Target: "/", Data: strings.Repeat("x", 4096)}}, Namespaces: NewMount}},
		{"Propagation", Spec{Propagation: Slave}},
		{"Propagation", Spec{Propagation: 2, Namespaces: NewMount}},
		{"Loopback", Spec{Loopback: true}},
		{"Writes[0].Path", Spec{Writes: []Write{{}}}},
		{"Writes[0].Path", Spec{Writes: []Write{{Path: "\x00"}}}},
		{"Calls[0]", Spec{Calls: []Call{{Name: "x", Args: make([]Arg, 7)}}}},
		{"Calls[0]", Spec{Calls: []Call{{Name: "x", At: 3}}}},
		{"Calls[0]", Spec{Calls: []Call{{}}}},
		{"UIDMaps", Spec{UIDMaps: ok}},
		{"GIDMaps", Spec{GIDMaps: ok}},
		{"Setgroups", Spec{Setgroups: true}},
		{"UIDMaps", Spec{Namespaces: NewUser}},
		{"GIDMaps", Spec{Namespaces: NewUser, UIDMaps: ok}},
		{"UIDMaps[0]", Spec{Namespaces: NewUser, UIDMaps: []IDMap{{0, 0, 0}}, GIDMaps: ok}},
		{"UIDMaps[0]", Spec{Namespaces: NewUser, UIDMaps: []IDMap{{0, math.MaxUint32, 1}}, GIDMaps: ok}},
		{"UIDMaps[1]", Spec{Namespaces: NewUser, UIDMaps: []IDMap{{0, 0, 10}, {9, 100, 1}}, GIDMaps: ok}},
		{"GIDMaps[1]", Spec{Namespaces: NewUser, UIDMaps: ok, GIDMaps: []IDMap{{0, 0, 10}, {10, 9, 1}}}},
		{"UIDMaps", Spec{Namespaces: NewUser, UIDMaps: make([]IDMap, 341), GIDMaps: ok}},
		{"Credential.UID", Spec{Namespaces: NewUser, UIDMaps: []IDMap{{1, 0, 1}}, GIDMaps: ok}},
		{"Credential.GID", Spec{Namespaces: NewUser, UIDMaps: ok, GIDMaps: ok, Credential: &Credential{GID: 1}}},
		{"Credential.Groups", Spec{Namespaces: NewUser, UIDMaps: ok, GIDMaps: ok, Credential: &Credential{Groups: []uint32{0}}}},
		{"Credential", Spec{Credential: &Credential{UID: math.MaxUint32}}},
		{"Credential", Spec{Credential: &Credential{Groups: []uint32{math.MaxUint32}}}},
		{"Credential.Groups", Spec{Credential: &Credential{Groups: make([]uint32, 65537)}}},
		{"Terminal", Spec{Terminal: true}},
		{"Terminal", Spec{Terminal: true, Setsid: true, Files: []int{-1}}},
		{"Umask", Spec{Umask: &umask}},
		{"Rlimits[0]", Spec{Rlimits: []Rlimit{{Resource: 16}}}},
		{"Rlimits[0]", Spec{Rlimits: []Rlimit{{Resource: -1}}}},
		{"Rlimits[0]", Spec{Rlimits: []Rlimit{{Soft: 2, Hard: 1}}}},
		{"Capabilities.Effective", Spec{Capabilities: &Capabilities{Effective: 1}}},
		{"Capabilities.Ambient", Spec{Capabilities: &Capabilities{Ambient: 1, Permitted: 1}}},
	} {
		if tt.field != "Path" {
			tt.spec.Path = "/bin/true"
		}
		err := tt.spec.Validate()
		var se *SpecError
		if assert.ErrorAs(t, err, &se, "%s of %.200v", tt.field, tt.spec) {
			assert.Equal(t, tt.field, se.Field, "%v", err)
		}
		_, cerr := Compile(tt.spec)
		assert.ErrorAs(t, cerr, &se, "Compile checks first")
	}
	s := Spec{Path: "/bin/true", Env: []string{strings.Repeat("x", 1<<17)}}
	require.ErrorIs(t, s.Validate(), syscall.E2BIG)
	s = Spec{Path: "/bin/true"}
	require.NoError(t, s.Validate())
	s = Spec{Path: "/bin/true", Namespaces: NewUser, UIDMaps: []IDMap{{0, 0, math.MaxUint32}}, GIDMaps: ok}
	require.NoError(t, s.Validate(), "all ids there are")
}

func TestErrorTexts(t *testing.T) {
	assert.EqualError(t, &StepError{Index: 7, Step: `mount("a", "/b")`, PID: 5, Err: syscall.EACCES, Stuck: true},
		`launch: step 7, mount("a", "/b"): permission denied (process 5 is killed but cannot die yet)`)
	assert.EqualError(t, &Killed{9}, "killed by signal 9")
	s := Spec{Path: "a/b", Hostname: "x"}
	assert.EqualError(t, s.Validate(), "launch: Hostname or Domainname true: needs NewUTS in Namespaces")
}
