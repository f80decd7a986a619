// SPDX-License-Identifier: Apache-2.0

package ociruntime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/ociruntime"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/test/foreign"
)

// here are the runtimes that whole suites run with.
func here() []string {
	if testutil.Emulated() {
		return []string{"crun"} // the faster one
	}
	return []string{"runc", "crun"}
}

// First arguments of this binary as something else than a test.
const (
	asFacts   = "facts" // a program in a sandbox that tells of it
	asFake    = "fake"  // a runtime that is none
	asNothing = "nothing"
	asAgent   = "agent" // one that starts a sandbox
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asFacts:
			os.Exit(tellFacts())
		case asAgent:
			os.Exit(agent(os.Args[2], os.Args[3], os.Args[4]))
		case asNothing:
			os.Exit(0)
		case asFake:
			os.Exit(fake(os.Args[2], os.Args[3:]))
		}
	}
	if code, ok := suiteWorkload(); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// need asks for a runtime.
func need(t testing.TB, runtime string) {
	t.Helper()
	testutil.Require(t, testutil.Root)
	if _, err := exec.LookPath(runtime); err != nil {
		testutil.Skip(t, testutil.Requirement(runtime), "%v", err)
	}
}

// image is a root file system with what a root needs to have mount points for.
func image(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "image")
	for _, d := range []string{"proc", "sys", "dev", "bin", "mnt", "etc"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/test"), nil, 0o755))
	for _, f := range []string{"resolv.conf", "hosts"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "etc", f), nil, 0o644))
	}
	return dir
}

// in gives a sandbox the image as its root, with this test's binary in it.
func in(t testing.TB, image string, s *isolation.Spec) {
	exe, err := os.Executable()
	require.NoError(t, err)
	s.Root = isolation.Root{Path: image, Volumes: []isolation.Volume{{Target: "/bin/test", Source: exe, ReadOnly: true}}}
}

// config is of a driver for the runtime.
func config(runtime, dir string) ociruntime.Config {
	line := foreign.RuntimeCommand(runtime)
	return ociruntime.Config{Binary: line[0], Args: line[1:], Root: dir, Subreaper: true}
}

// open makes a driver that is closed with the test.
func open(t testing.TB, cfg ociruntime.Config) *ociruntime.Driver {
	t.Helper()
	d, err := ociruntime.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, d.Close())
		// As a subreaper has to: what a runtime that was killed has left.
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err == syscall.EINTR || err == nil && pid > 0 {
				continue
			}
			return
		}
	})
	return d
}

// host is one with a driver called "oci". Everything of it is gone at the end.
func host(t testing.TB, change func(*ociruntime.Config)) (h *isolation.Host, cfg ociruntime.Config) {
	t.Helper()
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	parent := testutil.CgroupName(t)
	cfg = config("runc", filepath.Join(dir, "oci"))
	change(&cfg)
	h, err := isolation.Open(deadline(t), hostConfig(dir, parent, open(t, cfg)))
	require.NoError(t, err)
	t.Cleanup(func() {
		for s := range h.Sandboxes(nil) {
			require.NoError(t, s.Destroy(deadline(t)))
		}
		require.NoError(t, h.Remove(deadline(t)))
		require.NoError(t, h.Close())
		left, err := os.ReadDir(cfg.Root)
		require.NoError(t, err)
		require.Empty(t, left, "left in the driver's directory")
	})
	return h, cfg
}

// deadline bounds one operation. It says nothing about speed.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(30*time.Second))
	t.Cleanup(cancel)
	return ctx
}

// agent starts a sandbox by a fake runtime of this mode.
func agent(mode, dir, image string) int {
	exe, err := os.Executable()
	cfg := config("runc", filepath.Join(dir, "oci"))
	cfg.Binary, cfg.Args = exe, append([]string{asFake, mode, cfg.Binary}, cfg.Args...)
	var d *ociruntime.Driver
	if err == nil {
		d, err = ociruntime.New(cfg)
	}
	var h *isolation.Host
	if err == nil {
		h, err = isolation.Open(context.Background(), hostConfig(dir, filepath.Base(dir), d))
	}
	var box *isolation.Sandbox
	if err == nil {
		s := isolation.Spec{ID: "a", Driver: "oci", Process: isolation.Process{Args: []string{"/bin/test", asNothing}}}
		s.Root = isolation.Root{Path: image, Volumes: []isolation.Volume{{Target: "/bin/test", Source: exe, ReadOnly: true}}}
		box, err = h.Create(context.Background(), s)
	}
	if err == nil {
		err = box.Start(context.Background())
	}
	fmt.Fprintln(os.Stderr, "agent:", err)
	return 1
}

func hostConfig(dir, parent string, d isolation.Driver) isolation.Config {
	return isolation.Config{
		Root: filepath.Join(dir, "state"), Parent: parent, Drivers: map[string]isolation.Driver{"oci": d},
		Network: netns.Config{Pins: filepath.Join(dir, "pins")},
	}
}

// commands are the processes whose command line has both words.
func commands(a, b string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(line), a) || !strings.Contains(string(line), "\x00"+b+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// tellFacts writes what a process can tell of its sandbox.
func tellFacts() int {
	facts := map[string]string{}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		for _, want := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "NSpid", "SigBlk"} {
			if key == want {
				facts[key] = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	for _, file := range []string{"oom_score_adj", "limits", "uid_map", "gid_map"} {
		text, _ := os.ReadFile("/proc/self/" + file)
		facts[file] = string(text)
	}
	for _, file := range []string{"/etc/resolv.conf", "/etc/hosts", "/proc/sys/net/ipv4/ip_default_ttl"} {
		text, _ := os.ReadFile(file)
		facts[file] = string(text)
	}
	facts["limits"] = strings.Join(strings.Fields(lineWith(facts["limits"], "Max core file")), " ")
	facts["hostname"], _ = os.Hostname()
	facts["dir"], _ = os.Getwd()
	nice, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	facts["nice"] = strconv.Itoa(nice)
	facts["env"] = strings.Join(os.Environ(), " ")
	dev, _ := os.ReadDir("/dev")
	for _, d := range dev {
		if d.Name() != "core" { // of crun
			facts["dev"] += d.Name() + " "
		}
	}
	for name, call := range map[string]func() error{
		"reopen": func() error {
			f, err := os.OpenFile("/proc/self/fd/1", os.O_WRONLY, 0)
			return errors.Join(err, f.Close())
		},
		"AF_ALG":      func() error { _, err := syscall.Socket(38, syscall.SOCK_SEQPACKET, 0); return err },
		"AF_UNIX":     func() error { _, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); return err },
		"unshare":     func() error { return syscall.Unshare(syscall.CLONE_NEWUSER) },
		"sethostname": func() error { return syscall.Sethostname([]byte("x")) },
		"write /":     func() error { return os.WriteFile("/x", nil, 0o600) },
		"write /mnt":  func() error { return os.WriteFile("/mnt/x", nil, 0o600) },
		"write sysrq": func() error { return os.WriteFile("/proc/sysrq-trigger", nil, 0o600) },
		"read kcore": func() error {
			f, err := os.Open("/proc/kcore")
			if err == nil {
				_, err = f.Read(make([]byte, 1))
			}
			return err
		},
		"device": func() error {
			_ = syscall.Mknod("/mnt/dev", syscall.S_IFBLK|0o600, 254<<8)
			_, err := os.Open("/mnt/dev")
			if errors.Is(err, os.ErrPermission) { // EACCES of nodev, EPERM of the group's rules
				return os.ErrPermission
			}
			return err
		},
	} {
		facts[name] = fmt.Sprint(call())
	}
	if err := json.NewEncoder(os.Stdout).Encode(facts); err != nil {
		return 1
	}
	return 0
}

func lineWith(text, word string) string {
	lines := strings.Split(text, "\n")
	return lines[max(0, slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, word) }))]
}

// told are the facts of a sandbox of this spec.
func told(t testing.TB, h *isolation.Host, s isolation.Spec) map[string]string {
	t.Helper()
	s.Process.Args = []string{"/bin/test", asFacts}
	s.Process.Env = append(s.Process.Env, "HOME=/root") // or a runtime adds one
	box, err := h.Create(deadline(t), s)
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	require.NoError(t, onOddThread(func() error { return box.Start(deadline(t), nil, w, w) }))
	require.NoError(t, w.Close())
	facts := map[string]string{}
	require.NoError(t, json.NewDecoder(r).Decode(&facts))
	end, err := box.Wait(deadline(t))
	require.NoError(t, err)
	require.Equal(t, "exit status 0", end.String())
	require.NoError(t, box.Destroy(deadline(t)))
	return facts
}

// onOddThread calls do on a thread that blocks a signal and has a lower priority, which
// is not for a sandbox to inherit.
func onOddThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // until both end
		set := uint64(1) << (syscall.SIGUSR2 - 1)
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0)
		if errno != 0 {
			done <- errno
			return
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 5); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	return <-done
}

// fake is a runtime that fails at one command, and is the real one at others.
func fake(mode string, line []string) int {
	at, how, _ := strings.Cut(mode, "-")
	if !slices.Contains(line, at) {
		path, err := exec.LookPath(line[0])
		if err == nil {
			err = syscall.Exec(path, line, os.Environ())
		}
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	pidFile := ""
	if i := slices.Index(line, "--pid-file"); i > 0 {
		pidFile = line[i+1]
	}
	switch how {
	case "hang":
		<-time.After(time.Hour)
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "refuse":
		_ = os.WriteFile(line[slices.Index(line, "--log")+1], []byte(`{"level":"error","msg":"no `+strings.Repeat("\x1b[31m", 1<<20)+`"}`+"\n"), 0o600)
		fmt.Fprint(os.Stderr, strings.Repeat("no\x00", 1<<20))
		return 1
	case "nothing": // but that it went well
	case "garbage":
		_ = os.WriteFile(pidFile, []byte(strings.Repeat("9", 1<<20)), 0o600)
	case "stranger":
		_ = os.WriteFile(pidFile, []byte("1"), 0o600)
	case "negative":
		_ = os.WriteFile(pidFile, []byte("-1"), 0o600)
	}
	return 0
}
