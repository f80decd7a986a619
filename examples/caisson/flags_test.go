// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parseSpec(args ...string) (spec isolation.Spec, ids, argv []string, err error) {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	specFlags(fs, &spec)
	ids, argv, err = parse(fs, args)
	return spec, ids, argv, err
}

func TestFlagsStandAnywhere(t *testing.T) {
	for _, args := range []string{
		"--hostname h --dir /tmp a b -- sh --hostname x", "a --hostname h b --dir=/tmp -- sh --hostname x",
		"a b --hostname=h -dir /tmp -- sh --hostname x",
	} {
		spec, ids, argv, err := parseSpec(strings.Fields(args)...)
		require.NoError(t, err, args)
		assert.Equal(t, []string{"a", "b"}, ids, args)
		assert.Equal(t, []string{"sh", "--hostname", "x"}, argv, args)
		assert.Equal(t, "h", spec.Hostname, args)
		assert.Equal(t, "/tmp", spec.Process.Dir, args)
	}
	_, _, argv, err := parseSpec("a", "--", "b", "--", "c")
	require.NoError(t, err)
	assert.Equal(t, []string{"b", "--", "c"}, argv)
}

func TestSpecFlags(t *testing.T) {
	spec, _, _, err := parseSpec("--label", "app=web", "--label", "empty=", "--env", "A=1", "--env", "B=x=y", "--user", "7:8",
		"--cap", "CAP_KILL,CAP_CHOWN", "--rlimit", "nofile=10:20", "--rlimit", "core=0", "--new-privileges",
		"--ns", "net=new,time=host", "--ns", "user=new", "--uid-map", "0:1000:1", "--uid-map", "1:100000:10", "--gid-map", "0:1000:1")
	require.NoError(t, err)
	assert.Equal(t, isolation.Spec{
		Labels: map[string]string{"app": "web", "empty": ""},
		Process: isolation.Process{
			Env: []string{"A=1", "B=x=y"}, User: isolation.User{UID: 7, GID: 8}, Capabilities: []string{"CAP_KILL", "CAP_CHOWN"},
			Rlimits: []isolation.Rlimit{{Name: "nofile", Soft: 10, Hard: 20}, {Name: "core"}}, NewPrivileges: true,
		},
		Namespaces: isolation.Namespaces{
			Network: isolation.NamespaceNew, Time: isolation.NamespaceHost, User: isolation.NamespaceNew,
			UIDMap: namespaces.IDMaps{{Inside: 0, Outside: 1000, Count: 1}, {Inside: 1, Outside: 100000, Count: 10}},
			GIDMap: namespaces.IDMaps{{Inside: 0, Outside: 1000, Count: 1}},
		},
	}, spec)

	spec, _, _, err = parseSpec("--net", "new", "--cap", "none", "--user", "5")
	require.NoError(t, err)
	assert.Equal(t, isolation.NamespaceNew, spec.Namespaces.Network)
	assert.Equal(t, []string{}, spec.Process.Capabilities)
	assert.Equal(t, isolation.User{UID: 5, GID: 5}, spec.Process.User)

	for _, bad := range []string{
		"--label a", "--label =a", "--label a=1 --label a=2", "--env =x", "--env=", "--user -1", "--user root", "--user 1:", "--user 1:2:3",
		"--user 4294967296", "--rlimit nofile", "--rlimit nofile=", "--rlimit nofile=-1", "--rlimit nofile=1:2:3", "--ns net", "--ns net=",
		"--ns net=old", "--ns disk=new", "--net old", "--net=", "--uid-map 0", "--uid-map 0:1", "--uid-map a:b:c", "--uid-map 0:0:-1",
	} {
		_, _, _, err := parseSpec(strings.Fields(bad)...)
		assert.Error(t, err, bad)
	}
}

func TestParseEnv(t *testing.T) {
	outside := func(name string) (string, bool) { return "out " + name, name == "HOME" }
	for text, want := range map[string][]string{"HOME": {"HOME=out HOME"}, "HOME=": {"HOME="}, "NONE": nil, "A=b": {"A=b"}} {
		got, err := parseEnv(text, outside)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
}

func FuzzParseRlimit(f *testing.F) {
	f.Add("nofile=1024:4096")
	f.Add("core=unlimited")
	f.Add("=")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRlimit(s)
		if err != nil {
			require.Zero(t, r)
			return
		}
		require.True(t, strings.HasPrefix(s, r.Name+"="))
	})
}

func TestParseThreshold(t *testing.T) {
	got, err := parseThreshold("memory.full=50ms/1s")
	require.NoError(t, err)
	assert.Equal(t, elastic.Threshold{Resource: cgroups.PressureMemory, Full: true, Stall: 50 * time.Millisecond, Window: time.Second}, got)
	for _, bad := range []string{"", "cpu", "cpu=1s", "cpu=2s/1s", "cpu=0s/1s", "cpu=1ms/1ms", "disk=1ms/1s", "cpu.half=1ms/1s", "=1ms/1s", "cpu=x/1s", "cpu=1ms/x"} {
		got, err := parseThreshold(bad)
		require.Error(t, err, bad)
		assert.Zero(t, got, bad)
	}
}

func FuzzParseThreshold(f *testing.F) {
	f.Add("cpu=200ms/2s")
	f.Add("io.full=1us/10s")
	f.Fuzz(func(t *testing.T, s string) {
		th, err := parseThreshold(s)
		if err != nil {
			require.Zero(t, th)
			return
		}
		require.NoError(t, th.Validate())
		name := th.Resource.String()
		if th.Full {
			name += ".full"
		}
		again, err := parseThreshold(name + "=" + th.Stall.String() + "/" + th.Window.String())
		require.NoError(t, err)
		require.Equal(t, th, again)
	})
}

func TestOneLine(t *testing.T) {
	err := errors.Join(errors.New("a\nb"), errors.New("invalid value for flag -x: no"))
	assert.Equal(t, "a; b; invalid value for flag --x: no", oneLine(err))
}

func TestHuman(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 1023: "1023B", 1024: "1.0K", 1536: "1.5K", 100 << 10: "100K", 1 << 20: "1.0M", 1<<64 - 1: "16.0E"} {
		assert.Equal(t, want, human(n))
	}
}
