// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// ordinary is the host of an ordinary user, with a delegated group or without one.
func ordinary(t *testing.T, delegated bool) (*isolation.Host, isolation.Config) {
	t.Helper()
	testutil.Require(t, testutil.Unprivileged, testutil.UserNamespaces)
	cfg := isolation.Config{Root: t.TempDir() + "/state", Ungrouped: !delegated}
	if delegated {
		cfg.CgroupMount = testutil.Delegated(t)
	} else {
		testutil.Require(t, testutil.EachKernel)
	}
	h := openWith(t, cfg)
	require.Equal(t, delegated, h.Parent() != nil)
	return h, cfg
}

// both runs a test with a delegated group, where there is one, and without.
func both(t *testing.T, f func(t *testing.T, h *isolation.Host, cfg isolation.Config)) {
	for name, delegated := range map[string]bool{"delegated": true, "ungrouped": false} {
		t.Run(name, func(t *testing.T) {
			testutil.CheckLeaks(t)
			h, cfg := ordinary(t, delegated)
			f(t, h, cfg)
		})
	}
}

// TestOrdinaryDelegated runs the tests of ordinary users as one who was given a
// part of the unified tree.
func TestOrdinaryDelegated(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UnifiedTree)
	if testutil.Emulated() {
		return // the matrix runs them as an ordinary user itself
	}
	const user = 61235
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	var top string
	for _, m := range mounts {
		if m.V2 {
			top = filepath.Join(m.Path, testutil.CgroupName(t))
		}
	}
	for _, dir := range []string{top, top + "/tests"} {
		require.NoError(t, os.Mkdir(dir, 0o755))
		for _, file := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			require.NoError(t, os.Chown(filepath.Join(dir, file), user, user))
		}
	}
	dir, err := os.MkdirTemp("", "caisson-ordinary-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Mkdir(dir+"/tmp", 0o755))
	require.NoError(t, os.Chown(dir+"/tmp", user, user))
	exe, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/isolation.test", exe, 0o755))
	group, err := os.Open(top + "/tests")
	require.NoError(t, err)
	defer group.Close()
	cmd := exec.Command(dir+"/isolation.test", "-test.run=^TestOrdinary", "-test.v")
	cmd.Dir, cmd.Env = dir+"/tmp", []string{"TMPDIR=" + dir + "/tmp", "CAISSON_DELEGATED=" + top, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestOrdinary/delegated")
	assert.NotContains(t, string(out), "SKIP: TestOrdinary/", "%s", out)
	require.NoError(t, syscall.Rmdir(top+"/tests"))
	require.NoError(t, syscall.Rmdir(top))
}

func TestOrdinary(t *testing.T) {
	both(t, func(t *testing.T, h *isolation.Host, _ isolation.Config) {
		delegated := h.Parent() != nil
		text := fmt.Sprint(h.Lacks())
		assert.Equal(t, !delegated, strings.Contains(text, "limits, figures"), text)
		assert.Contains(t, text, "CAP_NET_ADMIN")

		out, err := io.ReadAll(run(t, create(t, h, spec(t, "who", "whoami"))))
		require.NoError(t, err)
		assert.Equal(t, "pid=1 uid=0 gid=0 host=who dir=/ env=[]\n", string(out))
		as := spec(t, "other", "whoami")
		as.Process.User = isolation.User{UID: 7, GID: 8}
		out, err = io.ReadAll(run(t, create(t, h, as)))
		require.NoError(t, err)
		assert.Contains(t, string(out), "uid=7 gid=8")

		s := spec(t, "plain", "wait")
		s.Namespaces.Network = isolation.NamespaceNew
		s.Class = elastic.LatencyCritical
		box := started(t, h, s)
		again, err := h.Create(deadline(t), s)
		require.NoError(t, err)
		assert.Same(t, box, again, "the spec is the same")
		st, err := box.Check(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, isolation.StateRunning, st.State)
		assert.NotZero(t, st.PID)
		assert.Equal(t, delegated, st.Cgroup != "")
		if !delegated {
			require.Len(t, st.Missing, 1)
			assert.Contains(t, st.Missing[0], "class latency-critical: no group")
			var figures cgroups.Stats
			for _, err := range []error{
				box.Freeze(deadline(t)), box.Stat(&figures), box.Reclaim(deadline(t), 1),
				func() error {
					_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(9)}})
					return err
				}(),
			} {
				assert.ErrorIs(t, err, isolation.ErrNotSupported)
				assert.ErrorIs(t, err, os.ErrPermission)
			}
		} else if h.Root().Controllers().Has(cgroups.ControllerPIDs) {
			_, err := box.Update(deadline(t), cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(99)}})
			require.NoError(t, err)
		}
		require.NoError(t, box.Kill(deadline(t)))
		end, err := box.Wait(deadline(t))
		require.NoError(t, err)
		assert.Equal(t, 9, end.Signal)
		require.NoError(t, box.Destroy(deadline(t)))
		require.NoError(t, box.Destroy(deadline(t)))
		assert.ErrorIs(t, syscall.Kill(st.PID, 0), syscall.ESRCH)
	})
}

// TestOrdinaryWatch: the exit is told of, with a group or without.
func TestOrdinaryWatch(t *testing.T) {
	both(t, func(t *testing.T, h *isolation.Host, _ isolation.Config) {
		box := started(t, h, spec(t, "watched", "wait"))
		require.NoError(t, box.Signal(deadline(t), syscall.SIGKILL))
		var last isolation.Event
		for ev, err := range box.Watch(deadline(t)) {
			require.NoError(t, err)
			last = ev
		}
		exited, is := last.(isolation.Exited)
		require.True(t, is, "%v", last)
		assert.Equal(t, 9, exited.Status.Signal)
	})
}

// TestOrdinaryRefused: what cannot be had is refused, and nothing is touched.
func TestOrdinaryRefused(t *testing.T) {
	both(t, func(t *testing.T, h *isolation.Host, cfg isolation.Config) {
		low := -1000
		root := namespaces.IDMaps{{Inside: 0, Outside: 0, Count: 1}}
		for name, change := range map[string]func(*isolation.Spec){
			"host users": func(s *isolation.Spec) { s.Namespaces.User = isolation.NamespaceHost },
			"ids of root": func(s *isolation.Spec) {
				s.Namespaces.User, s.Namespaces.UIDMap, s.Namespaces.GIDMap = isolation.NamespaceNew, root, root
			},
			"groups": func(s *isolation.Spec) { s.Process.User.Groups = []uint32{1} },
			"interfaces": func(s *isolation.Spec) {
				s.Network = netns.Spec{Mode: netns.ModeNew, Interfaces: []netns.Interface{{Name: "eth0", Kind: netns.Veth}}}
			},
			"oom": func(s *isolation.Spec) { s.Process.OOMScoreAdj = &low },
			"fifo": func(s *isolation.Spec) {
				s.Process.Scheduling.Policy, s.Process.Scheduling.Priority = isolation.PolicyFIFO, 99
			},
			"realtime": func(s *isolation.Spec) { s.Process.Scheduling.IOClass = isolation.IORealtime },
			"limits": func(s *isolation.Spec) {
				s.Resources.PIDs.Max = cgroups.Count(5)
				s.Process.Rlimits = []isolation.Rlimit{{Name: "rtprio", Soft: 0, Hard: 1 << 40}}
			},
			"host pids": func(s *isolation.Spec) {
				s.Namespaces.PID = isolation.NamespaceHost
				s.Process.User.Groups = []uint32{1}
			},
		} {
			s := spec(t, "refused", "wait")
			change(&s)
			_, err := h.Create(deadline(t), s)
			assert.ErrorIs(t, err, isolation.ErrNotSupported, name)
			assert.NoFileExists(t, cfg.Root+"/sandboxes/refused.state", name)
		}
		s := spec(t, "refused", "wait")
		s.Resources.PIDs.Max = cgroups.Count(5)
		if _, err := h.Create(deadline(t), s); h.Parent() == nil {
			assert.ErrorIs(t, err, isolation.ErrNotSupported)
		}
	})
}

// TestOrdinaryNotGrouped: without leave, a host without a group is an error, and
// leaves nothing.
func TestOrdinaryNotGrouped(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged)
	dir := t.TempDir() + "/state"
	_, err := isolation.Open(t.Context(), isolation.Config{Root: dir})
	assert.Truef(t, errors.Is(err, os.ErrPermission) || errors.Is(err, isolation.ErrNotSupported), "%v", err)
	assert.NoFileExists(t, dir+"/parent.state")
	_, err = isolation.Open(t.Context(), isolation.Config{Root: dir, Ungrouped: true, CgroupMount: "/nowhere"})
	assert.ErrorIs(t, err, os.ErrNotExist, "which is a mistake, and not a lack")
}

func TestOrdinaryRoot(t *testing.T) {
	both(t, func(t *testing.T, h *isolation.Host, _ isolation.Config) {
		for _, layers := range []bool{false, true} {
			dir := image(t)
			s := inRoot(t, spec(t, fmt.Sprintf("root-%v", layers), "look", "/", "/etc/name", "/dev/null", "/proc/1/comm", "/vol", "/proc/sys/kernel/hostname"),
				isolation.Root{Path: dir, Volumes: []isolation.Volume{{Target: "/vol", Size: 1 << 20}}})
			require.NoError(t, os.Mkdir(dir+"/vol", 0o755))
			if layers {
				s.Root.Path, s.Root.Layers = "", []string{dir}
			}
			r, err := tryRun(t, create(t, h, s))
			if layers && errors.Is(err, isolation.ErrNotSupported) {
				testutil.Skip(t, "overlay.user", "%v", err)
			}
			require.NoError(t, err)
			var found map[string]seen
			require.NoError(t, json.NewDecoder(r).Decode(&found))
			assert.Equal(t, "Dcrw-rw-rw-", found["/dev/null"].Mode)
			assert.Equal(t, "test\n", found["/proc/1/comm"].Text)
			assert.Equal(t, "lower", found["/etc/name"].Text)
			assert.Empty(t, found["/vol"].Write)
			assert.Empty(t, found["/"].Write, "it owns its files")
			assert.NotEmpty(t, found["/proc/sys/kernel/hostname"].Write)
			assert.Equal(t, !layers, exists(dir+"/made"))
		}
	})
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// childOrdinary is an agent without groups that starts sandboxes and waits to be
// killed.
func childOrdinary(args []string) int {
	h, err := isolation.Open(context.Background(), isolation.Config{Root: args[0], Ungrouped: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s, err := h.Create(context.Background(), isolation.Spec{ID: "left", Process: isolation.Process{Args: []string{os.Args[0], os.Args[1], "wait"}}})
	if err == nil {
		in, _, perr := os.Pipe()
		if err = perr; err == nil {
			err = s.Start(context.Background(), in, os.Stdout)
		}
	}
	fmt.Println(err)
	return pause()
}

// TestOrdinaryRecover: what an agent without groups leaves is found again by its
// process alone, and ended.
func TestOrdinaryRecover(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	dir := t.TempDir() + "/state"
	agent := testutil.Child(t, "ordinary", dir)
	out, err := agent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, agent.Start())
	buf := make([]byte, len("<nil>\nready\n"))
	_, err = io.ReadFull(out, buf)
	require.NoError(t, err)
	require.True(t, bytes.Contains(buf, []byte("ready")), "%s", buf)
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait()

	cfg := isolation.Config{Root: dir, Ungrouped: true}
	h, err := isolation.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, h.Recovered(), 1)
	assert.True(t, h.Recovered()[0].Adopted, "%v", h.Recovered())
	_, err = h.CPUs()
	assert.ErrorIs(t, err, isolation.ErrNotSupported)
	st, err := h.Check(deadline(t), "left")
	require.NoError(t, err)
	assert.Equal(t, isolation.StateRunning, st.State)
	require.NoError(t, h.Close())

	h = openWith(t, cfg)
	require.NoError(t, h.Destroy(deadline(t), "left"))
	_, err = os.Stat("/proc/" + strconv.Itoa(st.PID))
	if err == nil { // dead, and not reaped by whoever inherited it, or just now
		stat, rerr := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/stat")
		dead := strings.Contains(string(stat), ") Z ") || strings.Contains(string(stat), ") X ")
		assert.True(t, rerr != nil || dead, "%s", stat)
	}
}

func TestOrdinaryExec(t *testing.T) {
	both(t, func(t *testing.T, h *isolation.Host, _ isolation.Config) {
		for _, root := range []bool{false, true} {
			s := spec(t, fmt.Sprintf("exec-%v", root), "wait")
			p := isolation.Process{Args: testutil.ChildArgs(t, "view"), Dir: "/tmp"}
			if root {
				s = inRoot(t, s, isolation.Root{Path: image(t)})
				p.Args[0] = "test"
			}
			box := waits(t, h, s)
			st, err := box.Check(deadline(t))
			require.NoError(t, err)
			v, e := viewed(t, box, p)
			assert.Less(t, v.PID, 100, "a number of the sandbox's")
			assert.NotEqual(t, e.PID(), v.PID)
			assert.Equal(t, s.ID, v.Host)
			assert.Equal(t, "/tmp", v.Dir)
			assert.Equal(t, "1", v.Status["NoNewPrivs"])
			assert.Equal(t, map[bool]string{false: "0", true: "2"}[root], v.Status["Seccomp"])
			for kind, id := range v.Namespaces {
				first, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", st.PID, kind))
				require.NoError(t, err)
				assert.Equal(t, first, id, kind)
			}

			// Killing goes by way of what stands for it outside.
			r, w, err := os.Pipe()
			require.NoError(t, err)
			long := isolation.Process{Args: testutil.ChildArgs(t, "wait")}
			long.Args[0] = p.Args[0]
			idle, hold, err := os.Pipe()
			require.NoError(t, err)
			killed, err := box.Exec(deadline(t), long, idle, w)
			require.NoError(t, errors.Join(w.Close(), idle.Close(), err))
			require.NoError(t, killed.Signal(syscall.SIGKILL))
			end, err := killed.Wait(deadline(t))
			require.NoError(t, err)
			assert.Equal(t, 128+9, end.Code)
			_, err = io.Copy(io.Discard, r)
			require.NoError(t, err, "nobody has the other end any more")
			require.NoError(t, errors.Join(r.Close(), hold.Close()))

			coded := isolation.Process{Args: testutil.ChildArgs(t, "exit", "42")}
			coded.Args[0] = p.Args[0]
			e, err = box.Exec(deadline(t), coded)
			require.NoError(t, err)
			end, err = e.Wait(deadline(t))
			require.NoError(t, err)
			assert.Equal(t, 42, end.Code)
			coded.User.UID = 3
			_, err = box.Exec(deadline(t), coded)
			assert.ErrorIs(t, err, isolation.ErrInvalid)
			require.NoError(t, box.Destroy(deadline(t)))
		}
	})
}
