// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// TestDescriptorsSeenFromOutside: of all that a process in a sandbox has open, and
// of its directory and root, nothing leads to the machine's files; neither of the
// first one nor of one that came later (fault 56, CVE-2024-21626).
func TestDescriptorsSeenFromOutside(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	box := waits(t, h, inRoot(t, spec(t, "open", "wait"), isolation.Root{Layers: []string{image(t)}}))
	st, err := box.Check(deadline(t))
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	e, err := box.Exec(deadline(t), isolation.Process{Args: append([]string{"/bin/test"}, testutil.ChildArgs(t, "wait")[1:]...)}, nil, w)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, err = r.Read(make([]byte, 6)) // "ready": it is past exec
	require.NoError(t, err)
	var root unix.Stat_t
	require.NoError(t, unix.Stat(fmt.Sprintf("/proc/%d/root", st.PID), &root))
	for _, pid := range []int{st.PID, e.PID()} {
		dir := "/proc/" + strconv.Itoa(pid)
		fds := names(dir + "/fd")
		require.NotEmpty(t, fds)
		for _, fd := range fds {
			to, err := os.Readlink(dir + "/fd/" + fd)
			require.NoError(t, err)
			n, _ := strconv.Atoi(fd)
			switch {
			case n <= 2 && (to == "/dev/null" || strings.HasPrefix(to, "pipe:")):
			case n == 2: // the test's own, which it was given
			case to == "anon_inode:[eventpoll]", to == "anon_inode:[eventfd]": // of the Go program that it is
			default:
				t.Errorf("descriptor %s of process %d is %s", fd, pid, to)
			}
		}
		for _, link := range []string{"/cwd", "/root"} {
			var at unix.Stat_t
			require.NoError(t, unix.Stat(dir+link, &at))
			assert.Equal(t, [2]uint64{uint64(root.Dev), root.Ino}, [2]uint64{uint64(at.Dev), at.Ino}, link)
		}
	}
}

// TestLabelsAreData: whatever labels say, they change nothing about what the
// sandbox is and may (fault 60, CVE-2024-3154, CVE-2023-6476, CVE-2026-94603).
func TestLabelsAreData(t *testing.T) {
	testutil.CheckLeaks(t)
	h := open(t)
	labels := map[string]string{
		"io.kubernetes.cri-o.UnifiedCgroup.labels": "memory.max=max;pids.max=max", "io.kubernetes.cri-o.Devices": "/dev/sda",
		"org.systemd.property.ExecStart": "['/bin/sh']", "run.oci.keep_original_groups": "1", "seccomp": "off",
		"io.kubernetes.cri-o.userns-mode": "host", "nri.caisson/privileged": "true", "../../release_agent": "/bin/sh",
	}
	seen := map[bool]view{}
	for _, labelled := range []bool{false, true} {
		s := inRoot(t, spec(t, "same", "view"), isolation.Root{Layers: []string{image(t)}})
		plain := s.Protections()
		if labelled {
			s.Labels = labels
		}
		assert.Equal(t, plain, s.Protections())
		box := create(t, h, s)
		limits, err := box.Cgroup().Resources()
		require.NoError(t, err)
		assert.True(t, limits.PIDs.Max.IsZero() || limits.PIDs.Max.String() == "max")
		var v view
		require.NoError(t, json.NewDecoder(run(t, box)).Decode(&v))
		v.Namespaces, v.Up = nil, 0 // which are others each time
		v.Status = map[string]string{
			"Uid": v.Status["Uid"], "Gid": v.Status["Gid"], "Groups": v.Status["Groups"], "CapBnd": v.Status["CapBnd"],
			"CapEff": v.Status["CapEff"], "Seccomp": v.Status["Seccomp"], "NoNewPrivs": v.Status["NoNewPrivs"],
		}
		seen[labelled] = v
		require.NoError(t, box.Destroy(deadline(t)))
	}
	assert.Equal(t, seen[false], seen[true])
}

// TestInheritableCapabilities: what an agent may pass on to the programs that it
// executes does not reach a sandbox (fault 62, CVE-2022-29162).
func TestInheritableCapabilities(t *testing.T) {
	testutil.CheckLeaks(t)
	cfg := config(t)
	agent := testutil.Child(t, "reaper", "agent", cfg.Root, cfg.Parent, "inherits", "wait")
	if agent.SysProcAttr == nil {
		agent.SysProcAttr = &syscall.SysProcAttr{}
	}
	agent.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_CHOWN, unix.CAP_SYS_ADMIN}
	out, err := agent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, agent.Start())
	defer func() { _ = agent.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started\n", line)
	h := openWith(t, cfg)
	st, err := h.Check(deadline(t), "inherits")
	require.NoError(t, err)
	sets := func(pid int) map[string]string {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		require.NoError(t, err)
		found := map[string]string{}
		for line := range strings.Lines(string(text)) {
			if key, value, _ := strings.Cut(line, ":"); strings.HasPrefix(key, "Cap") {
				found[key] = strings.TrimSpace(value)
			}
		}
		return found
	}
	const none = "0000000000000000"
	assert.NotEqual(t, none, sets(agent.Process.Pid)["CapInh"], "what the agent was started with")
	inside := sets(st.PID)
	assert.Equal(t, none, inside["CapInh"])
	assert.Equal(t, none, inside["CapAmb"])
	assert.Equal(t, inside["CapBnd"], inside["CapPrm"])
	require.NoError(t, h.Destroy(deadline(t), "inherits"))
}
