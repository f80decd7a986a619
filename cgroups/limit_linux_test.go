// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func init() { children["tenant"] = tenantMain }

// tenantMain does what its standard input says, one command a line, and answers each
// with "ok" or the error.
func tenantMain([]string) int {
	var kept [][]byte
	var open []*os.File // a disk's cache goes with its last descriptor
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var err error
		switch cmd, arg, _ := strings.Cut(in.Text(), " "); cmd {
		case "open":
			var f *os.File
			if f, err = os.OpenFile(arg, os.O_RDWR, 0); err == nil {
				_ = f.Close()
			}
		case "read":
			var f *os.File
			if f, err = os.Open(arg); err == nil {
				open = append(open, f)
				_, err = io.Copy(io.Discard, io.LimitReader(f, 8<<20))
			}
		case "file":
			var f *os.File
			if f, err = os.Create(arg); err == nil {
				_, err = f.Write(make([]byte, 8<<20))
				err = errors.Join(err, f.Sync(), f.Close())
			}
		case "anon":
			n, _ := strconv.Atoi(arg)
			b := make([]byte, n)
			for i := 0; i < n; i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
		var errno syscall.Errno
		if errors.As(err, &errno) {
			err = errno
		}
		if err == nil {
			err = errors.New("ok")
		}
		fmt.Println(err, len(kept))
	}
	return 0
}

// tenant starts a process in the group and returns how to command it.
func tenant(t *testing.T, c *Cgroup) func(cmd string) string {
	t.Helper()
	cmd := testutil.Child(t, "tenant")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	require.NoError(t, c.Add(t.Context(), cmd.Process.Pid))
	lines := bufio.NewScanner(out)
	return func(cmd string) string {
		_, err := fmt.Fprintln(in, cmd)
		require.NoError(t, err)
		require.True(t, lines.Scan(), "the tenant is gone")
		s := lines.Text()
		return s[:strings.LastIndexByte(s, ' ')]
	}
}

// TestDevicesHold tries what a group may and may not open, on v1's list and v2's
// program alike.
func TestDevicesHold(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, 0)
	do := tenant(t, c)
	update := func(d Devices) {
		t.Helper()
		_, err := c.Update(t.Context(), Resources{Devices: d})
		require.NoError(t, err)
	}
	const denied = "operation not permitted"
	require.Equal(t, "ok", do("open /dev/zero"))
	update(DefaultDevices())
	assert.Equal(t, "ok", do("open /dev/zero"))
	assert.Equal(t, "ok", do("open /dev/null"))
	update(AllowDevices(DeviceRule{Type: CharDevice, Major: 1, Minor: 3, Access: DeviceRead | DeviceWrite}))
	assert.Equal(t, denied, do("open /dev/zero"))
	assert.Equal(t, "ok", do("open /dev/null"))
	update(AllowDevices(DeviceRule{Type: CharDevice, Major: 1, AnyMinor: true, Access: DeviceRead}))
	assert.Equal(t, denied, do("open /dev/null"), "it is opened for writing too")
	update(AllowDevices(DeviceRule{Type: BlockDevice, AnyMajor: true, AnyMinor: true, Access: deviceAll}))
	assert.Equal(t, denied, do("open /dev/null"))
	update(AllowDevices())
	assert.Equal(t, denied, do("open /dev/null"))
	update(AllDevices())
	assert.Equal(t, "ok", do("open /dev/zero"))
}

// memoryUsage is what the group uses.
func memoryUsage(t *testing.T, c *Cgroup) uint64 {
	t.Helper()
	tree := filesOf(c)
	defer tree.close()
	text, err := tree.read(ControllerMemory, map[int]string{1: usageV1, 2: usageFile}[tree.version(ControllerMemory)])
	require.NoError(t, err)
	n, err := parseAmount(text)
	require.NoError(t, err)
	return n
}

// TestShrinkNeverKills lowers memory.max below what cannot be reclaimed: the
// same typed error on v1 and v2, nothing changed, nobody killed (fault 33).
func TestShrinkNeverKills(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	requireController(t, r, ControllerMemory)
	c := newGroup(t, r, 0)
	const mib = 1 << 20
	_, err := c.Update(t.Context(), supported(t, c, Resources{Memory: Memory{Max: Bytes(256 * mib), Swap: Bytes(0)}}))
	require.NoError(t, err)
	before := knobState(t, c)
	do := tenant(t, c)
	require.Equal(t, "ok", do("anon "+strconv.Itoa(64*mib)))
	_, err = c.Update(t.Context(), Resources{Memory: Memory{Max: Bytes(8 * mib)}, PIDs: PIDs{Max: Count(100)}})
	require.ErrorIs(t, err, ErrInUse)
	var use *InUseError
	require.ErrorAs(t, err, &use)
	assert.GreaterOrEqual(t, use.Usage, uint64(60*mib))
	t.Log(err)
	require.Equal(t, before, knobState(t, c))
	require.Equal(t, "ok", do("alive"))
}

// TestShrinkReclaims lowers memory.max below the usage where that is page
// cache, which the kernel drops.
func TestShrinkReclaims(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	requireController(t, r, ControllerMemory)
	c := newGroup(t, r, 0)
	do := tenant(t, c)
	require.Equal(t, "ok", do(fillCache(t)))
	const mib = 1 << 20
	usage := memoryUsage(t, c)
	tree := filesOf(c)
	stat, err := tree.read(ControllerMemory, "memory.stat")
	require.NoError(t, err)
	shmem, _ := lineOf(stat, "shmem")
	if n, err := parseAmount(shmem); usage < 7*mib || err != nil || n > mib {
		testutil.Skip(t, testutil.ScratchDevice, "the directory for temporary files has no page cache: %d bytes used, %s of them shmem", usage, shmem)
	}
	limit := Bytes(usage - 5*mib)
	p, err := c.Plan(Resources{Memory: Memory{Max: limit}})
	require.NoError(t, err)
	t.Log(p)
	res, err := c.Update(t.Context(), Resources{Memory: Memory{Max: limit}})
	require.NoError(t, err)
	require.Len(t, res.Changes, 1)
	require.NotNil(t, res.Changes[0].Shrunk)
	n, _ := limit.Value()
	assert.LessOrEqual(t, memoryUsage(t, c), n)
	require.Equal(t, "ok", do("alive"))
	now, err := c.Resources()
	require.NoError(t, err)
	assert.True(t, now.Memory.High.IsZero() || now.Memory.High.IsMax(), "memory.high stays what it was")
}

// fillCache is a command that makes a tenant use 8 MiB of page cache: the
// content of a disk, or a file.
func fillCache(t *testing.T) string {
	t.Helper()
	if disk := os.Getenv("CAISSON_BLOCKDEV"); disk != "" {
		return "read " + disk
	}
	return "file " + filepath.Join(t.TempDir(), "cached")
}

// requireController skips a test on kernels built without ctl.
func requireController(t *testing.T, r *Root, ctl Controller) {
	t.Helper()
	if !r.Controllers().Has(ctl) {
		testutil.Require(t, testutil.Cgroup2(ctl.String()))
	}
}

// TestUpdateBringsUnder names a knob of a controller that the group is not
// under.
func TestUpdateBringsUnder(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	c := newGroup(t, r, ControllersOf(ControllerCPU))
	if r.Mode() == Unified {
		// Controllers that the top passes on, everybody below it is under.
		inner, err := r.Create(c.Path()+"/inner", ControllersOf(ControllerCPU))
		require.NoError(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(5*time.Second))
			defer cancel()
			require.NoError(t, inner.Remove(ctx))
			require.NoError(t, inner.Close())
		})
		c = inner
	}
	do := tenant(t, c)
	want := Resources{PIDs: PIDs{Max: Count(50)}, Memory: Memory{Max: Bytes(256 << 20)}}
	p, err := c.Plan(want)
	require.NoError(t, err)
	t.Log(p)
	require.Len(t, p.Changes, 2)
	for _, ch := range p.Changes {
		assert.NoFileExists(t, ch.Path)
	}
	require.Equal(t, []Enabling{{c.Path(), ControllersOf(ControllerPIDs, ControllerMemory)}}, p.Enable)
	_, err = c.Update(t.Context(), want)
	require.NoError(t, err)
	now, err := c.Resources()
	require.NoError(t, err)
	require.Equal(t, want.PIDs, now.PIDs)
	require.Equal(t, want.Memory.Max, now.Memory.Max)
	require.Equal(t, "ok", do("anon 4096"))
	again, err := c.Plan(want)
	require.NoError(t, err)
	require.Empty(t, again.Changes)
	require.Zero(t, again.Enable)
}

// TestBandwidthNested changes quota and period of a group between a parent and
// a child that have just as much.
func TestBandwidthNested(t *testing.T) {
	testutil.Require(t, testutil.Root)
	testutil.CheckLeaks(t)
	r := openRoot(t)
	requireController(t, r, ControllerCPU)
	groups := []*Cgroup{newGroup(t, r, ControllersOf(ControllerCPU))}
	for range 2 {
		c, err := r.Create(groups[len(groups)-1].Path()+"/inner", ControllersOf(ControllerCPU))
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, c.Remove(context.Background()))
			require.NoError(t, c.Close())
		})
		groups = append(groups, c)
	}
	const ms = time.Millisecond
	for _, c := range groups {
		_, err := c.Update(t.Context(), Resources{CPU: CPU{Max: Quota(50*ms, 100*ms)}})
		require.NoError(t, err, c.Path())
	}
	for _, b := range []Bandwidth{Quota(100*ms, 200*ms), Quota(10*ms, 20*ms), Quota(500*ms, 1000*ms), Quota(50*ms, 100*ms)} {
		for _, c := range groups {
			res, err := c.Update(t.Context(), Resources{CPU: CPU{Max: b}})
			require.NoError(t, err, c.Path())
			require.NotEmpty(t, res.Changes)
		}
	}
	_, v, _ := r.Where(ControllerCPU)
	if v == 2 {
		return // more than the parent's is taken, and has no effect
	}
	_, err := groups[1].Update(t.Context(), Resources{CPU: CPU{Weight: WeightOf(7), Max: CPUs(1)}})
	require.ErrorIs(t, err, syscall.EINVAL)
	require.ErrorContains(t, err, "above the parent's")
	now, err := groups[1].Resources()
	require.NoError(t, err)
	require.Equal(t, Quota(50*ms, 100*ms), now.CPU.Max)
	require.Equal(t, WeightOf(100), now.CPU.Weight)
}

// TestEffectiveCPUs asks which CPUs a group has by its parent, and by itself.
func TestEffectiveCPUs(t *testing.T) {
	testutil.Require(t, testutil.Root)
	r := openRoot(t)
	requireController(t, r, ControllerCPUSet)
	c := newGroup(t, r, ControllersOf(ControllerCPUSet))
	_, err := c.Update(t.Context(), Resources{CPUSet: CPUSet{CPUs: DefaultSet()}})
	require.NoError(t, err)
	all, err := c.EffectiveCPUs()
	require.NoError(t, err)
	require.NotZero(t, all.Len())
	first := -1
	for first = range all.Each {
		break
	}
	_, err = c.Update(t.Context(), Resources{CPUSet: CPUSet{CPUs: SetOf(first)}})
	require.NoError(t, err)
	one, err := c.EffectiveCPUs()
	require.NoError(t, err)
	assert.Equal(t, SetOf(first), one)

	without := newGroup(t, r, ControllersOf(ControllerPIDs))
	if without.Controllers().Has(ControllerCPUSet) {
		return // v2's parent has it for all below
	}
	_, err = without.EffectiveCPUs()
	require.ErrorIs(t, err, ErrNotSupported)
}
