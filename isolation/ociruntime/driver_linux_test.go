// SPDX-License-Identifier: Apache-2.0

package ociruntime_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/ociruntime"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// What a runtime makes of a spec is what the native driver makes of it.
func TestAsNative(t *testing.T) {
	adj := 500
	specs := map[string]func(*isolation.Spec){
		"default": func(*isolation.Spec) {},
		"user": func(s *isolation.Spec) {
			s.Process.User = isolation.User{UID: 7, GID: 8, Groups: []uint32{9}}
			s.Process.Env, s.Process.Dir = []string{"A=b"}, "/bin"
			s.Process.Capabilities, s.Process.NewPrivileges = []string{"CAP_CHOWN"}, true
			s.Process.Rlimits = []isolation.Rlimit{{Name: "core", Soft: 0, Hard: 4096}}
			s.Process.OOMScoreAdj = &adj
			s.Hostname = "inside"
		},
		"admin": func(s *isolation.Spec) {
			s.Process.Capabilities = []string{"CAP_SYS_ADMIN"}
			s.Root.ReadOnly = true
			s.Root.Masked, s.Root.Guarded = []string{}, []string{}
			s.Root.Volumes = append(s.Root.Volumes, isolation.Volume{Target: "/mnt"})
		},
		"mapped": func(s *isolation.Spec) {
			s.Namespaces.User, s.Namespaces.Network = isolation.NamespaceNew, isolation.NamespaceNew
			s.Namespaces.UIDMap = namespaces.IDMaps{{Outside: 0, Count: 65536}}
			s.Namespaces.GIDMap = s.Namespaces.UIDMap
		},
		"network": func(s *isolation.Spec) {
			s.Network = netns.Spec{
				Mode: netns.ModeNew, Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "77"},
				DNS: netns.DNS{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}},
			}
			s.Namespaces.User = isolation.NamespaceNew // the network stays the machine's
			s.Namespaces.UIDMap = namespaces.IDMaps{{Outside: 0, Count: 65536}}
			s.Namespaces.GIDMap = s.Namespaces.UIDMap
		},
		"layers": func(s *isolation.Spec) {
			s.Root.Layers, s.Root.Path = []string{s.Root.Path}, ""
			s.Root.Size = 1 << 20
		},
	}
	for _, runtime := range here() {
		t.Run(runtime, func(t *testing.T) {
			need(t, runtime)
			h, _ := host(t, func(c *ociruntime.Config) { *c = config(runtime, c.Root) })
			root := image(t)
			for name, change := range specs {
				t.Run(name, func(t *testing.T) {
					s := isolation.Spec{ID: "a"}
					in(t, root, &s)
					change(&s)
					want := told(t, h, s)
					s.Driver = "oci"
					got := told(t, h, s)
					assert.Equal(t, want, got)
				})
			}
		})
	}
}

var errEnough = errors.New("waited long enough")

// A runtime that fails, in whatever way and whenever, leaves the sandbox as it was.
func TestFailingRuntime(t *testing.T) {
	need(t, "runc")
	exe, err := os.Executable()
	require.NoError(t, err)
	root := image(t)
	for _, mode := range []string{
		"create-hang", "create-die", "create-refuse", "create-nothing", "create-garbage", "create-stranger", "create-negative",
		"start-hang", "start-die", "start-refuse",
	} {
		t.Run(mode, func(t *testing.T) {
			h, cfg := host(t, func(c *ociruntime.Config) {
				c.Binary, c.Args = exe, append([]string{asFake, mode, c.Binary}, c.Args...)
			})
			s := isolation.Spec{ID: "a", Driver: "oci", Process: isolation.Process{Args: []string{"/bin/test"}}}
			in(t, root, &s)
			s.Resources.PIDs.Max = cgroups.Count(50)
			box, err := h.Create(deadline(t), s)
			require.NoError(t, err)
			ctx, cancel := context.WithCancelCause(deadline(t))
			defer cancel(nil)
			if at, hangs := strings.CutSuffix(mode, "-hang"); hangs {
				go func() {
					for len(commands(cfg.Root, at)) == 0 && ctx.Err() == nil {
						<-time.After(10 * time.Millisecond)
					}
					cancel(errEnough)
				}()
			}
			err = box.Start(ctx)
			var failed *ociruntime.RuntimeError
			require.ErrorAs(t, err, &failed)
			assert.Less(t, len(err.Error()), 5000, "what a runtime says is bounded")
			var exit *exec.ExitError
			switch mode {
			case "create-hang", "start-hang":
				require.ErrorIs(t, err, errEnough)
			case "create-die", "start-die":
				require.ErrorAs(t, err, &exit)
				assert.Equal(t, "signal: killed", exit.String())
			case "create-refuse", "start-refuse":
				require.ErrorAs(t, err, &exit)
				assert.Contains(t, failed.Output, "no")
			default:
				assert.ErrorContains(t, err, "pid file")
			}
			st, err := box.Check(deadline(t))
			require.NoError(t, err)
			assert.Equal(t, isolation.StateCreated, st.State)
			assert.Zero(t, st.PIDs)
			assert.Empty(t, st.Drift, "the limits hold")
			assert.NoDirExists(t, filepath.Join(cfg.Root, "a/state"))
			require.NoError(t, box.Destroy(deadline(t)))
			assert.NoDirExists(t, filepath.Join(cfg.Root, "a"))
		})
	}
}

// Whoever looks at a sandbox while its start fails, and the runtime takes its group
// away, sees one that was not started, and a watch goes on in the group that follows.
func TestLookingAtFailingStart(t *testing.T) {
	need(t, "crun")
	h, _ := host(t, func(c *ociruntime.Config) { *c = config("crun", c.Root) })
	root := image(t)
	s := isolation.Spec{ID: "a", Driver: "oci", Process: isolation.Process{Args: []string{"/bin/late", asNothing}}}
	in(t, root, &s)
	box, err := h.Create(deadline(t), s)
	require.NoError(t, err)
	before := box.Cgroup().ID()

	ctx, cancel := context.WithCancel(deadline(t))
	var looking, watching sync.WaitGroup
	stop := func() { cancel(); looking.Wait() }
	defer func() { stop(); watching.Wait() }()
	looking.Go(func() {
		for ctx.Err() == nil {
			st, err := box.Check(t.Context())
			assert.NoError(t, err)
			assert.Equal(t, isolation.StateCreated, st.State)
			assert.Zero(t, st.PID)
			<-time.After(time.Millisecond)
		}
	})
	looking.Go(func() {
		var st cgroups.Stats
		for ctx.Err() == nil {
			if err := box.Stat(&st); err != nil {
				assert.True(t, errors.Is(err, cgroups.ErrGone) || errors.Is(err, os.ErrClosed), "%v", err)
			}
			<-time.After(time.Millisecond)
		}
	})
	events := make(chan isolation.Event, 100)
	watching.Go(func() {
		for ev, err := range box.Watch(deadline(t)) {
			if assert.NoError(t, err) {
				events <- ev
			}
		}
		close(events)
	})
	for range 3 {
		var failed *ociruntime.RuntimeError
		require.ErrorAs(t, box.Start(deadline(t)), &failed)
	}
	assert.NotEqual(t, before, box.Cgroup().ID())
	require.NoError(t, os.Symlink("test", filepath.Join(root, "bin/late")))
	stop()
	require.NoError(t, box.Start(deadline(t)))
	last, ok := isolation.Event(nil), false
	for ev := range events {
		last, ok = ev, true
	}
	require.True(t, ok)
	assert.IsType(t, isolation.Exited{}, last)
}

// A runtime that deletes nothing has its work done for it.
func TestRuntimeThatForgetsNothing(t *testing.T) {
	need(t, "runc")
	exe, err := os.Executable()
	require.NoError(t, err)
	h, _ := host(t, func(c *ociruntime.Config) {
		c.Binary, c.Args = exe, append([]string{asFake, "delete-die", c.Binary}, c.Args...)
	})
	s := isolation.Spec{ID: "a"}
	in(t, image(t), &s)
	s.Driver = "oci"
	told(t, h, s)
}

func TestMissingRuntime(t *testing.T) {
	testutil.Require(t, testutil.Root)
	h, cfg := host(t, func(c *ociruntime.Config) { c.Binary, c.Args = "/nowhere/runc", nil })
	s := isolation.Spec{ID: "a", Driver: "oci", Process: isolation.Process{Args: []string{"/bin/test"}}}
	in(t, image(t), &s)
	_, err := h.Create(deadline(t), s)
	var failed *ociruntime.RuntimeError
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.NoDirExists(t, filepath.Join(cfg.Root, "a"))
	_, err = h.Sandbox(deadline(t), "a")
	require.ErrorIs(t, err, isolation.ErrNotFound)
}

// The agent is killed while the runtime works. The runtime goes with it, and the
// next agent finds the sandbox as it was before.
func TestAgentDies(t *testing.T) {
	need(t, "runc")
	for _, command := range []string{"create", "start"} {
		t.Run(command, func(t *testing.T) {
			testutil.CheckLeaks(t)
			parent := testutil.CgroupName(t)
			dir := filepath.Join(t.TempDir(), parent) // whose name the agent takes for the parent's
			require.NoError(t, os.Mkdir(dir, 0o700))
			exe, err := os.Executable()
			require.NoError(t, err)
			agent := exec.Command(exe, asAgent, command+"-hang", dir, image(t))
			require.NoError(t, agent.Start())
			hung := func() bool { return len(commands(dir, command)) > 0 }
			require.Eventually(t, hung, testutil.Patience(20*time.Second), 10*time.Millisecond)
			require.NoError(t, agent.Process.Kill())
			require.Error(t, agent.Wait())
			require.Eventually(t, func() bool { return !hung() }, testutil.Patience(20*time.Second), 10*time.Millisecond, "the runtime lives on")

			cfg := config("runc", filepath.Join(dir, "oci"))
			h, err := isolation.Open(deadline(t), hostConfig(dir, parent, open(t, cfg)))
			require.NoError(t, err)
			require.Len(t, h.Recovered(), 1)
			require.True(t, h.Recovered()[0].Adopted, "%s", h.Recovered()[0])
			box, err := h.Sandbox(deadline(t), "a")
			require.NoError(t, err)
			st, err := box.Check(deadline(t))
			require.NoError(t, err)
			assert.Equal(t, isolation.StateCreated, st.State)
			assert.Zero(t, st.PIDs)
			require.NoError(t, box.Start(deadline(t)))
			end, err := box.Wait(deadline(t))
			require.NoError(t, err)
			assert.Equal(t, "exit status 0", end.String())
			require.NoError(t, box.Destroy(deadline(t)))
			require.NoError(t, h.Remove(deadline(t)))
			require.NoError(t, h.Close())
			left, err := os.ReadDir(cfg.Root)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

// A sandbox that was frozen before its start is not started into that.
func TestStartFrozen(t *testing.T) {
	need(t, "runc")
	h, _ := host(t, func(*ociruntime.Config) {})
	s := isolation.Spec{ID: "a", Driver: "oci", Process: isolation.Process{Args: []string{"/bin/test", asFacts}}}
	in(t, image(t), &s)
	box, err := h.Create(deadline(t), s)
	require.NoError(t, err)
	require.NoError(t, box.Freeze(deadline(t)))
	require.ErrorIs(t, box.Start(deadline(t)), isolation.ErrState)
	require.NoError(t, box.Thaw(deadline(t)))
	require.NoError(t, box.Start(deadline(t)))
	end, err := box.Wait(deadline(t))
	require.NoError(t, err)
	assert.True(t, end.Known)
}

// A directory in the way is not the driver's.
func TestBundleInTheWay(t *testing.T) {
	need(t, "runc")
	h, cfg := host(t, func(*ociruntime.Config) {})
	theirs := filepath.Join(cfg.Root, "a")
	require.NoError(t, os.Mkdir(theirs, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(theirs, "pid"), nil, 0o600))
	s := isolation.Spec{ID: "a", Driver: "oci", Process: isolation.Process{Args: []string{"/bin/test"}}}
	in(t, image(t), &s)
	_, err := h.Create(deadline(t), s)
	require.ErrorIs(t, err, fs.ErrExist)
	require.FileExists(t, filepath.Join(theirs, "pid"))
	require.NoError(t, os.RemoveAll(theirs))
}

// What a runtime would ignore is refused, by name, before anything is made.
func TestRefused(t *testing.T) {
	need(t, "runc")
	h, cfg := host(t, func(*ociruntime.Config) {})
	root := image(t)
	for field, change := range map[string]func(*isolation.Spec){
		"root":                    func(s *isolation.Spec) { s.Root = isolation.Root{} },
		"root.bare":               func(s *isolation.Spec) { s.Root.Bare = true },
		"process.reaper":          func(s *isolation.Spec) { s.Process.Reaper = true },
		"process.terminal":        func(s *isolation.Spec) { s.Process.Terminal = true },
		"process.scheduling.cpus": func(s *isolation.Spec) { s.Process.Scheduling.CPUs = cgroups.SetOf(0) },
		"security.landlock":       func(s *isolation.Spec) { s.Security.Landlock = isolation.On },
	} {
		s := isolation.Spec{ID: "a", Driver: "oci", Process: isolation.Process{Args: []string{"/bin/test"}}}
		in(t, root, &s)
		change(&s)
		_, err := h.Create(deadline(t), s)
		var lacks *isolation.UnsupportedError
		if assert.True(t, errors.As(err, &lacks), "%s: %v", field, err) {
			assert.Equal(t, field, lacks.Feature)
		}
		assert.NoDirExists(t, filepath.Join(cfg.Root, "a"))
	}
}
