// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/test/foreign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docker is a Docker daemon of the test's own.
type docker struct {
	*testing.T
	*foreign.Docker
	parent string
}

// dockerPrograms are what a daemon needs.
var dockerPrograms = []string{"dockerd", "docker", "containerd", "runc", "busybox"}

// startDocker starts a daemon.
func startDocker(t *testing.T, fill func(image string) error) *docker {
	t.Helper()
	name := parentName(t)
	dir, err := os.MkdirTemp("", "caisson-docker-") // t.TempDir makes the socket's path too long
	require.NoError(t, err)
	d, err := foreign.StartDocker(dir, name, fill)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	return &docker{t, d, name}
}

// startDockerWithCommand starts a daemon whose image has the command caisson
// besides.
func startDockerWithCommand(t *testing.T) *docker {
	t.Helper()
	need(t, dockerPrograms...)
	return startDocker(t, func(image string) error {
		build := exec.Command("go", "build", "-o", filepath.Join(image, "bin/caisson"), "github.com/caisson-run/caisson/examples/caisson")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		said, err := build.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return err
	})
}

// cli is a docker command that must work.
func (d *docker) cli(args ...string) string {
	d.Helper()
	out, err := d.CLI(args...)
	require.NoError(d, err)
	return out
}

// run starts a container that sleeps.
func (d *docker) run(name string, args ...string) (pid int) {
	d.Helper()
	pid, err := d.Docker.Run(name, args...)
	require.NoError(d, err)
	return pid
}

func (d *docker) inspect(name, what string) string {
	d.Helper()
	text, err := d.Inspect(name, what)
	require.NoError(d, err)
	return text
}

func (d *docker) pid(name string) int {
	d.Helper()
	pid, err := d.PID(name)
	require.NoError(d, err)
	require.Positive(d, pid)
	return pid
}

func TestDocker(t *testing.T) {
	d := startDockerWithCommand(t)
	pid := d.run("db", "--memory=64m", "--memory-swap=64m", "--cpus=0.5", "--pids-limit=50")
	path := d.parent + "/" + d.inspect("db", ".Id")
	before := groups(t, d.parent)

	t.Run("pid", func(t *testing.T) { takeCharge(t, isolation.PID(pid)) })
	t.Run("cgroup", func(t *testing.T) { takeCharge(t, isolation.CgroupPath(path)) })
	t.Run("effects", func(t *testing.T) { d.effects(t, pid) })
	t.Run("others", func(t *testing.T) { d.others(t, pid) })
	t.Run("disk", func(t *testing.T) { d.disk(t) })
	t.Run("agent in a container", func(t *testing.T) { d.agentInside(t, pid) })
	assert.Equal(t, "true", d.inspect("db", ".State.Running"))
	assert.Equal(t, pid, d.pid("db"))
	eventually(t, "nothing made, nothing removed", func() bool { return slices.Equal(before, groups(t, d.parent)) })
	t.Run("life", func(t *testing.T) { d.life(t) })
}

// effects are felt in the container, and docker does not know of them.
func (d *docker) effects(t *testing.T, pid int) {
	h := open(t, config(t))
	s, err := h.Adopt(deadline(t), "db", isolation.PID(pid))
	require.NoError(t, err)
	inside := func(script string) (string, error) {
		return d.CLI("exec", "db", "/bin/sh", "-c", script)
	}
	knows := func() string {
		return d.inspect("db", ".HostConfig.Memory") + " " + d.inspect("db", ".HostConfig.NanoCpus") + " " +
			d.inspect("db", ".HostConfig.PidsLimit") + " " + d.inspect("db", ".HostConfig.CpusetCpus")
	}
	known := knows()

	const eat = "dd if=/dev/zero of=/dev/null bs=96M count=1"
	_, err = inside(eat)
	require.Error(t, err, "64 MiB are not enough")
	update(t, s, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(160 << 20)}})
	said, err := inside(eat)
	require.NoError(t, err, "grown: %s", said)
	update(t, s, cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(32 << 20)}})
	_, err = inside(eat)
	require.Error(t, err, "shrunk")

	update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(8)}})
	const fork = "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/sleep 60 & done; exit 0"
	said, err = inside(fork)
	assert.Error(t, err)
	assert.Contains(t, said, "fork")
	update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(100)}})
	said, err = inside(strings.ReplaceAll(fork, "60", "0"))
	require.NoError(t, err, "%s", said)

	update(t, s, cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0)}})
	said, err = inside("grep Cpus_allowed_list /proc/1/status")
	require.NoError(t, err)
	assert.Equal(t, []string{"Cpus_allowed_list:", "0"}, strings.Fields(said))

	update(t, s, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.CPUs(0.05)}})
	var stats cgroups.Stats
	throttled := func() uint64 {
		require.NoError(t, s.Stat(&stats))
		n, _ := stats.CPU.Throttled.Value()
		return n
	}
	from := throttled()
	_, err = inside("i=0; while [ $i -lt 4000 ]; do i=$((i+1)); done")
	require.NoError(t, err)
	assert.Greater(t, throttled(), from)
	update(t, s, cgroups.Resources{CPU: cgroups.CPU{Max: cgroups.NoQuota()}})

	assert.Equal(t, known, knows(), "docker remembers what docker run said")
	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
	assert.Equal(t, "67108864", d.inspect("db", ".HostConfig.Memory"))
}

// others: whoever wrote last, we hear of it, and the next plan sees what holds;
// and pausing is told, and not undone where it can be told from our own.
func (d *docker) others(t *testing.T, pid int) {
	h := open(t, config(t))
	s, err := h.Adopt(deadline(t), "db", isolation.PID(pid))
	require.NoError(t, err)
	update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}})
	assert.Empty(t, check(t, s).Drift)
	d.cli("update", "--pids-limit", "60", "db")
	drift := check(t, s).Drift
	require.Len(t, drift, 1)
	assert.Equal(t, "pids.max", drift[0].Knob)
	assert.Equal(t, "60", drift[0].Found)
	plan, err := s.Plan(cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(70)}})
	require.NoError(t, err)
	require.Len(t, plan.Changes, 1)
	assert.Equal(t, "60", plan.Changes[0].Old)
	assert.Equal(t, "70", plan.Changes[0].New)

	d.cli("pause", "db")
	assert.True(t, check(t, s).Frozen)
	if h.Mode() != cgroups.Unified {
		require.Error(t, s.Thaw(deadline(t)), "docker has to unpause it")
		assert.True(t, check(t, s).Frozen)
	}
	d.cli("unpause", "db")
	assert.False(t, check(t, s).Frozen)

	// What docker does with a container that we have frozen waits for us.
	require.NoError(t, s.Freeze(deadline(t)))
	waits := make(chan error, 1)
	go func() {
		_, err := d.CLI("exec", "db", "/bin/true")
		waits <- err
	}()
	require.True(t, check(t, s).Frozen)
	require.NoError(t, s.Thaw(deadline(t)))
	require.NoError(t, <-waits)
}

// disk is about io.max.
func (d *docker) disk(t *testing.T) {
	disk, err := diskOf(os.TempDir()) // where the daemon keeps its files
	if err != nil {
		testutil.Skip(t, testutil.BlockDevice, "%v", err)
	}
	pid := d.run("disk")
	defer d.cli("rm", "--force", "disk")
	h := open(t, config(t))
	s, err := h.Adopt(deadline(t), "disk", isolation.PID(pid))
	require.NoError(t, err)
	write := func() (time.Duration, error) {
		begin := time.Now()
		_, err := d.CLI("exec", "disk", "/bin/dd", "if=/dev/zero", "of=/f", "bs=1M", "count=4", "oflag=direct")
		return time.Since(begin), err
	}
	if _, err := write(); err != nil {
		testutil.Skip(t, testutil.BlockDevice, "no direct writes: %v", err)
	}
	update(t, s, cgroups.Resources{IO: cgroups.IO{Devices: []cgroups.IODevice{{Device: disk, WriteBytes: cgroups.Bytes(1 << 20)}}}})
	took, err := write()
	require.NoError(t, err)
	assert.Greater(t, took, 2*time.Second, "4 MiB at 1 MiB a second")
	require.NoError(t, s.Release(deadline(t), isolation.RestoreLimits))
	s, err = h.Adopt(deadline(t), "disk", isolation.PID(pid))
	require.NoError(t, err)
	for _, dev := range holds(t, s).IO.Devices {
		assert.True(t, dev.WriteBytes.IsZero() || dev.WriteBytes == cgroups.Max(), "%+v", dev)
	}
}

// diskOf is the whole disk that a directory is on.
func diskOf(dir string) (cgroups.Device, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return cgroups.Device{}, err
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00)
	if _, err := os.Stat(sys + "/partition"); err == nil {
		sys += "/.."
	}
	if _, err := os.Stat(sys + "/queue"); err != nil {
		return cgroups.Device{}, err
	}
	b, err := os.ReadFile(sys + "/dev")
	if err != nil {
		return cgroups.Device{}, err
	}
	return cgroups.ParseDevice(strings.TrimSpace(string(b)))
}

// agentInside has the agent in a container of its own, with the machine's
// processes and cgroup file systems, and in another cgroup namespace or the
// machine's.
func (d *docker) agentInside(t *testing.T, pid int) {
	sibling := d.parent + "/" + d.inspect("db", ".Id")
	for _, namespace := range []string{"host", "private"} {
		for name, target := range map[string]string{"pid": "--pid " + strconv.Itoa(pid), "cgroup": "--cgroup " + sibling} {
			t.Run(namespace+" "+name, func(t *testing.T) {
				parent := testutil.CgroupName(t)
				said := d.cli("run", "--rm", "--network=none", "--pid=host", "--cgroupns="+namespace,
					"--volume=/sys/fs/cgroup:/host/cgroup", "--entrypoint=/bin/sh", "box", "-ec", fmt.Sprintf(`
						caisson() { verb=$1; shift; /bin/caisson --root /tmp/state --parent %s --cgroup-mount /host/cgroup $verb "$@"; }
						caisson adopt me --pid $$ 2>&1 && exit 1
						caisson adopt db %s
						caisson update db --pids-max 66 --cpu-weight 55
						caisson check db
						caisson release db
						caisson clean`, parent, target))
				assert.Contains(t, said, "this process is in the group itself")
				assert.Contains(t, said, "running, adopted")

				h := open(t, config(t))
				s, err := h.Adopt(deadline(t), "db", isolation.PID(pid))
				require.NoError(t, err)
				assert.Equal(t, cgroups.Count(66), holds(t, s).PIDs.Max)
				update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(65)}})
			})
		}
	}
}

// life is the container's and the daemon's: ends, restarts and crashes.
func (d *docker) life(t *testing.T) {
	cfg := config(t)
	h, err := isolation.Open(deadline(t), cfg)
	require.NoError(t, err)
	s, err := h.Adopt(deadline(t), "db", isolation.PID(d.pid("db")))
	require.NoError(t, err)
	update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(44)}})

	// Our agent restarts.
	require.NoError(t, h.Close())
	h = open(t, cfg)
	require.Len(t, h.Recovered(), 1)
	assert.True(t, h.Recovered()[0].Adopted, h.Recovered()[0])
	s, err = h.Sandbox(deadline(t), "db")
	require.NoError(t, err)
	assert.Equal(t, cgroups.Count(44), holds(t, s).PIDs.Max)

	// Their daemon is killed, and started again.
	pid := d.pid("db")
	require.NoError(t, d.Kill())
	update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(45)}})
	assert.Equal(t, isolation.StateRunning, check(t, s).State)
	require.NoError(t, d.Start())
	assert.Equal(t, pid, d.pid("db"), "live-restore")
	update(t, s, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(46)}})

	// The container is restarted: another group of the same name at docker.
	last := watchLast(t, s)
	d.cli("restart", "--time", "0", "db")
	switch ev := (<-last).(type) {
	case isolation.Exited, isolation.Gone:
	default:
		t.Errorf("the last event is %T", ev)
	}
	_, err = s.Check(deadline(t))
	require.ErrorIs(t, err, isolation.ErrNotFound)
	s, err = h.Adopt(deadline(t), "db", isolation.PID(d.pid("db")))
	require.NoError(t, err)
	assert.Equal(t, d.pid("db"), check(t, s).PID)
	assert.NotEqual(t, cgroups.Count(46), holds(t, s).PIDs.Max, "docker has set its own again")

	// It is ended while we have it frozen.
	require.NoError(t, s.Freeze(deadline(t)))
	d.cli("rm", "--force", "db")
	eventually(t, "the end of the container", func() bool {
		_, err := s.Check(deadline(t))
		return errors.Is(err, isolation.ErrNotFound)
	})
}
