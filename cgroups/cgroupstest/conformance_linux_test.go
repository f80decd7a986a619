// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{"use": use})
}

// use waits for its first line of input, then uses memory, says so, and waits
// for the end of its input.
func use(args []string) int {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return 1
	}
	n, _ := strconv.Atoi(args[0])
	var held []byte
	if args[1] != "" {
		f, err := os.Create(args[1])
		if err != nil {
			return 1
		}
		block := make([]byte, 1<<20)
		for range n >> 20 {
			if _, err := f.Write(block); err != nil {
				return 1
			}
		}
		_ = f.Sync()
		_ = f.Close()
	} else {
		held = make([]byte, n)
		for i := 0; i < n; i += 4096 {
			held[i] = 1
		}
	}
	fmt.Println("used")
	_, _ = io.Copy(io.Discard, in)
	if len(held) > 0 && held[0] != 1 {
		return 1
	}
	return 0
}

// realBench is a group in a real hierarchy.
type realBench struct {
	t    *testing.T
	base string
}

func (b realBench) path(p string) string { return filepath.Join(b.base, p) }

func (b realBench) mkdir(path string) error { return syscall.Mkdir(b.path(path), 0o755) }
func (b realBench) rmdir(path string) error { return syscall.Rmdir(b.path(path)) }

func (b realBench) open(path, file string) (held, error) {
	fd, err := syscall.Open(filepath.Join(b.path(path), file), syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	h := &realHeld{fd: fd}
	b.t.Cleanup(func() { _ = h.Close() })
	return h, nil
}

type realHeld struct{ fd int }

func (h *realHeld) Close() error {
	fd := h.fd
	if h.fd = -1; fd < 0 {
		return nil
	}
	return syscall.Close(fd)
}

func (h *realHeld) read() (string, error) {
	buf := make([]byte, 1<<16)
	for {
		n, err := syscall.Pread(h.fd, buf, 0)
		if err == syscall.EINTR { //nolint:errorlint // a bare errno
			continue
		}
		return oneLine(string(buf[:max(n, 0)])), err
	}
}

func (h *realHeld) write(data string) error {
	for {
		n, err := syscall.Write(h.fd, []byte(data))
		switch {
		case err == syscall.EINTR: //nolint:errorlint // a bare errno
			continue
		case err == nil && n != len(data):
			return io.ErrShortWrite
		}
		return err
	}
}

func (b realBench) start(path string, bytes uint64, file bool) (int, error) {
	name := ""
	if file {
		name = filepath.Join(testutil.Scratch(b.t), "file")
	}
	cmd := testutil.Child(b.t, "use", strconv.FormatUint(bytes, 10), name)
	in, err := cmd.StdinPipe()
	require.NoError(b.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b.t, err)
	require.NoError(b.t, cmd.Start())
	pid := cmd.Process.Pid
	h, err := b.open(path, "cgroup.procs")
	if err == nil {
		err = h.write(strconv.Itoa(pid))
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return pid, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.WriteString(in, "go\n")
		_, _ = bufio.NewReader(out).ReadString('\n')
	}()
	select {
	case <-done:
	case <-time.After(testutil.Patience(10 * time.Second)):
		b.t.Fatal("the process does not come to use its memory")
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return pid, nil
}

func (b realBench) alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func soon(ok func() bool) bool {
	end := time.Now().Add(testutil.Patience(5 * time.Second))
	for !ok() {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

func running(t *testing.T) Release {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	return release(string(b))
}

// disk is the number of a disk, if there is one.
func disk(t *testing.T) string {
	for _, pattern := range []string{"/sys/block/[vsx]d*/dev", "/sys/block/nvme*/dev", "/sys/block/loop0/dev"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		if len(found) > 0 {
			b, err := os.ReadFile(found[0])
			require.NoError(t, err)
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

// real makes the base of a case in a real hierarchy, or returns false if there
// is none.
func (c conformance) real(t *testing.T) (b realBench, ok bool) {
	mounts, err := testutil.CgroupMounts()
	require.NoError(t, err)
	i := slices.IndexFunc(mounts, func(m testutil.CgroupMount) bool {
		name := c.ctl
		if name == "io" && !m.V2 {
			name = "blkio"
		}
		return m.V2 == (c.version == 2) && (slices.Contains(m.Controllers, name) || c.ctl == "")
	})
	if i < 0 {
		return b, false
	}
	top := realBench{t, mounts[i].Path}
	b = realBench{t, filepath.Join(top.base, testutil.CgroupName(t))}
	put := func(in realBench, file, data string) {
		h, err := in.open("", file)
		require.NoError(t, err)
		require.NoError(t, h.write(data), "%s = %s", in.path(file), data)
	}
	if c.version == 2 && c.ctl != "" {
		put(top, "cgroup.subtree_control", "+"+c.ctl)
	}
	require.NoError(t, b.mkdir(""))
	t.Cleanup(func() { b.clear() })
	if c.version == 2 && c.ctl != "" {
		put(b, "cgroup.subtree_control", "+"+c.ctl)
	}
	if c.version == 1 && c.ctl == "cpuset" {
		put(b, "cpuset.cpus", "0-1")
		put(b, "cpuset.mems", "0")
	}
	return b, true
}

// clear ends and removes what is left of the base.
func (b realBench) clear() {
	var dirs []string
	_ = filepath.WalkDir(b.base, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		for _, file := range []string{"cgroup.freeze", "freezer.state"} {
			data := map[string]string{"cgroup.freeze": "0", "freezer.state": "THAWED"}[file]
			if h, err := (realBench{b.t, d}).open("", file); err == nil {
				_ = h.write(data)
			}
		}
	}
	for _, d := range dirs {
		soon(func() bool {
			err := syscall.Rmdir(d)
			return err == nil || errors.Is(err, syscall.ENOENT)
		})
	}
}

// TestConformanceReal plays every script on this machine's kernel, and on the
// fake of the same release.
func TestConformanceReal(t *testing.T) {
	testutil.Require(t, testutil.Root)
	kernel, disk := running(t), disk(t)
	played := 0
	for _, c := range table {
		t.Run(c.title(), func(t *testing.T) {
			if disk == "" && strings.Contains(c.script, "$DISK") {
				t.Log("there is no disk")
				return
			}
			b, ok := c.real(t)
			if !ok {
				t.Logf("no hierarchy of v%d has %q here", c.version, c.ctl)
				return
			}
			require.NoError(t, b.mkdir("a"))
			if _, err := os.Stat(b.path("a/" + c.needs)); c.needs != "" && os.IsNotExist(err) {
				t.Logf("this kernel has no %s", c.needs)
				return
			}
			require.NoError(t, c.play(b, kernel, disk, soon), "the kernel, %d.%d", kernel.Major, kernel.Minor)
			f := c.fake(t, kernel, disk)
			require.NoError(t, f.mkdir("a"))
			require.NoError(t, c.play(f, kernel, disk, atOnce), "the fake")
			played++
		})
	}
	t.Logf("%d of %d cases", played, len(table))
	require.NotZero(t, played)
}
