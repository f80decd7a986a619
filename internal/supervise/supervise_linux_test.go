// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/internal/testutil"
)

// How a process ended is there for the next agent until one has acknowledged it.
func TestExit(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	first, _ := supervised(t, dir)
	code, in := waiting(t, first, "code", 7)
	signal, killed := waiting(t, first, "signal", 128+int(syscall.SIGTERM))
	require.NoError(t, first.Close()) // the agent is gone
	require.NoError(t, in.Close())
	require.NoError(t, killed.Close())

	second := NewClient(dir)
	t.Cleanup(func() { _ = second.Close() })
	exit, err := second.Exit(deadline(t), "code", code)
	require.NoError(t, err)
	assert.Equal(t, Exit{Known: true, Code: 7, At: exit.At}, exit)
	assert.WithinDuration(t, time.Now(), exit.At, time.Minute)
	exit, err = second.Exit(deadline(t), "signal", signal)
	require.NoError(t, err)
	assert.Equal(t, int(syscall.SIGTERM), exit.Signal)

	_, err = second.Exit(deadline(t), "signal", code)
	require.ErrorIs(t, err, ErrUnknown, "another process")
	found, err := second.Find(deadline(t), "code")
	require.NoError(t, err)
	assert.Equal(t, code, found)
	_, err = second.Find(deadline(t), "nobody")
	require.ErrorIs(t, err, ErrUnknown)
	list, err := second.List(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, []Entry{
		{"code", code, true, false, list[0].Exit}, {"signal", signal, true, false, list[1].Exit},
	}, list)
	assert.Equal(t, 7, list[0].Exit.Code)

	// It is on disk until it is acknowledged, and known to others after that.
	exits, err := openExits(dir)
	require.NoError(t, err)
	onDisk, err := exits.read("code", code)
	require.NoError(t, err)
	assert.Equal(t, 7, onDisk.Code)
	require.NoError(t, second.Ack(deadline(t), "code", code))
	_, err = exits.read("code", code)
	require.ErrorIs(t, err, ErrUnknown)
	exit, err = second.Exit(deadline(t), "code", code)
	require.NoError(t, err)
	assert.Equal(t, 7, exit.Code)
	forgotten(t, second, "code")
	_, err = second.Exit(deadline(t), "code", code)
	require.ErrorIs(t, err, ErrUnknown)
	forgotten(t, second, "signal")
	names, err := exits.dir.Names()
	require.NoError(t, err)
	assert.Empty(t, names)
}

// A supervisor that dies after the exit loses nothing; one that dies before it loses
// that alone, and says so.
func TestSupervisorDies(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	c := NewClient(dir)
	defer c.Close()
	child, err := c.Start(deadline(t), testutil.ChildArgs(t, "supervise"), launch.Spec{})
	require.NoError(t, err)
	before, in := waiting(t, c, "before", 7)
	after, later := waiting(t, c, "after", 8)
	require.NoError(t, in.Close())
	_, err = c.Exit(deadline(t), "before", before)
	require.NoError(t, err)
	pending := make(chan error)
	go func() {
		_, err := c.Exit(deadline(t), "after", after)
		pending <- err
	}()
	require.NoError(t, sys.PidfdSignal(child.PIDFD.Int(), syscall.SIGKILL))
	_, err = child.Wait()
	require.NoError(t, err)
	require.NoError(t, child.PIDFD.Close())
	require.ErrorIs(t, <-pending, ErrUnknown, "who waited is told")

	exit, err := c.Exit(deadline(t), "before", before)
	require.NoError(t, err)
	assert.Equal(t, 7, exit.Code)
	_, err = c.Find(deadline(t), "after")
	require.ErrorIs(t, err, ErrNone)
	_, _, err = c.Launch(deadline(t), "new", &launch.Spec{Path: "/x"}, -1)
	require.ErrorIs(t, err, ErrNone)

	// The next one takes its place, on the stale socket, and knows of the file.
	next, err := c.Start(deadline(t), testutil.ChildArgs(t, "supervise"), launch.Spec{})
	require.NoError(t, err)
	list, err := c.List(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, []Entry{{ID: "before", Ended: true}}, list)
	require.NoError(t, c.Ack(deadline(t), "before", before))
	list, err = c.List(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, list)
	require.NoError(t, c.Close())
	_, err = next.Wait()
	require.NoError(t, err, "without work it ends")
	require.NoError(t, next.PIDFD.Close())
	require.NoError(t, later.Close())
}

// A launch that fails tells as much as one without a supervisor.
func TestLaunchErrors(t *testing.T) {
	testutil.CheckLeaks(t)
	c, _ := supervised(t, t.TempDir())
	start := func(s launch.Spec) error {
		_, _, err := c.Launch(deadline(t), "x", &s, -1)
		require.Error(t, err)
		return err
	}
	var refused *Refusal
	var path *fs.PathError
	err := start(launch.Spec{Path: "/nowhere"})
	require.ErrorAs(t, err, &refused)
	require.ErrorAs(t, err, &path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, "exec /nowhere: no such file or directory", err.Error())

	require.ErrorAs(t, start(launch.Spec{Path: "/bin/sh\x00"}), &refused)

	var step *launch.StepError
	err = start(launch.Spec{Path: "/bin/sh", Dir: "/nowhere"})
	require.ErrorAs(t, err, &step)
	require.ErrorIs(t, err, unix.ENOENT)
	assert.Contains(t, step.Step, "/nowhere")
	assert.NotZero(t, step.PID)

	big := make([]string, 200)
	for i := range big {
		big[i] = strings.Repeat("x", 30<<10)
	}
	err = start(launch.Spec{Path: "/bin/sh", Args: append(big, big...)})
	require.ErrorIs(t, err, unix.EMSGSIZE, "a message of more than eight megabytes")
	many := make([]int, maxFDs+1)
	for i := range many {
		fd, err := dup(0)
		require.NoError(t, err)
		defer fd.Close()
		many[i] = fd.Int()
	}
	require.ErrorIs(t, start(launch.Spec{Path: "/bin/sh", Files: many}), unix.EMSGSIZE)

	// Nothing of all that is there.
	list, err := c.List(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, list)

	p, in := waiting(t, c, "x", 1)
	require.ErrorIs(t, start(launch.Spec{Path: "/bin/sh"}), unix.EEXIST)
	require.NoError(t, in.Close())
	_, err = c.Exit(deadline(t), "x", p)
	require.NoError(t, err)
	forgotten(t, c, "x")
}

// What does not fit into a message of the socket arrives all the same, byte for byte.
func TestLargeLaunch(t *testing.T) {
	testutil.CheckLeaks(t)
	c, _ := supervised(t, t.TempDir())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	text := "\xff not UTF-8"
	args := testutil.ChildArgs(t, "say", text)
	s := launch.Spec{Path: args[0], Args: args, Files: []int{-1, int(w.Fd()), 2}}
	for range 20 {
		s.Env = append(s.Env, "X="+strings.Repeat("x", 10<<10))
	}
	child, p, err := c.Launch(deadline(t), "large", &s, -1)
	require.NoError(t, err)
	require.NoError(t, child.PIDFD.Close())
	require.NoError(t, w.Close())
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, text, string(got))
	exit, err := c.Exit(deadline(t), "large", p)
	require.NoError(t, err)
	assert.Equal(t, 0, exit.Code)
	forgotten(t, c, "large")
}

// A process that nobody takes delivery of never was.
func TestUntaken(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	c, _ := supervised(t, dir)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	args := testutil.ChildArgs(t, "exit", "7")
	spec := launch.Spec{Path: args[0], Args: args, Files: []int{int(r.Fd()), -1, 2}}
	m := &message{Op: opLaunch, ID: "x", FD: -1, OOM: c.oom}
	m.Spec, m.Files, err = spec.Marshal()
	require.NoError(t, err)
	conn, reply, err := c.askOn(deadline(t), m)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	finding := make(chan error)
	go func() {
		_, err := c.Find(deadline(t), "x")
		finding <- err
	}()
	require.NoError(t, conn.close()) // as an agent that dies does
	require.NoError(t, waitEnd(deadline(t), sys.NewFD(reply.FD)))
	require.NoError(t, unix.Close(reply.FD))
	require.ErrorIs(t, <-finding, ErrUnknown)
	_, in := waiting(t, c, "x", 3) // and the id is free
	require.NoError(t, in.Close())
	p, err := c.Find(deadline(t), "x")
	require.NoError(t, err)
	exit, err := c.Exit(deadline(t), "x", p)
	require.NoError(t, err)
	assert.Equal(t, 3, exit.Code)
	forgotten(t, c, "x")
}

// A supervisor that is stopped holds nobody up longer than he wants, and does not
// start later what nobody wants any more.
func TestFrozen(t *testing.T) {
	testutil.CheckLeaks(t)
	c, child := supervised(t, t.TempDir())
	stop(t, child)
	out := t.TempDir() + "/out"
	file, err := os.Create(out)
	require.NoError(t, err)
	defer file.Close()
	args := testutil.ChildArgs(t, "say", "too late")
	ctx, cancel := context.WithTimeoutCause(deadline(t), 50*time.Millisecond, fmt.Errorf("no time"))
	defer cancel()
	_, _, err = c.Launch(ctx, "x", &launch.Spec{Path: args[0], Args: args, Files: []int{-1, int(file.Fd()), 2}}, -1)
	require.ErrorContains(t, err, "does not answer")
	require.ErrorContains(t, err, "no time")
	require.NoError(t, sys.PidfdSignal(child.PIDFD.Int(), syscall.SIGCONT))
	list, err := c.List(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, list)
	require.NoError(t, c.Close())
	require.NoError(t, waitEnd(deadline(t), child.PIDFD), "it has nothing to do")
	said, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.Empty(t, said)
}

// stop stops a child, and returns when it stands still.
func stop(t *testing.T, child *launch.Child) {
	t.Helper()
	require.NoError(t, sys.PidfdSignal(child.PIDFD.Int(), syscall.SIGSTOP))
	require.NoError(t, unix.Waitid(unix.P_PID, child.PID, nil, unix.WSTOPPED|unix.WNOWAIT, nil))
}

// What was kept comes back, in order, also what nobody has read yet.
func TestKeep(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	first, child := supervised(t, dir)
	before := descriptors(t, child.PID)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	require.NoError(t, first.Keep(deadline(t), "x", "out", []int{int(r.Fd()), int(w.Fd()), int(r.Fd())}))
	require.NoError(t, r.Close())
	require.NoError(t, first.Close())
	_, err = w.WriteString("while nobody looked")
	require.NoError(t, err)

	second := NewClient(dir)
	t.Cleanup(func() { _ = second.Close() })
	files, err := second.Kept(deadline(t), "x", "out")
	require.NoError(t, err)
	require.Len(t, files, 3)
	buf := make([]byte, 64)
	n, err := unix.Read(files[0], buf)
	require.NoError(t, err)
	assert.Equal(t, "while nobody looked", string(buf[:n]))
	_, err = unix.Write(files[1], []byte("x"))
	require.NoError(t, err)
	_, err = unix.Read(files[2], buf)
	require.NoError(t, err)
	closeAll(files)

	none, err := second.Kept(deadline(t), "x", "in")
	require.NoError(t, err)
	assert.Empty(t, none)
	var refused *Refusal
	for id, name := range map[string]string{"x": "", "": "x", "../x": "x", "y": "\n", "z": strings.Repeat("x", 100)} {
		require.ErrorAs(t, second.Keep(deadline(t), id, name, []int{1}), &refused, "%q %q", id, name)
	}
	require.ErrorAs(t, second.Keep(deadline(t), "x", "many", make([]int, 100)), &refused)
	for i := range maxNames - 1 {
		require.NoError(t, second.Keep(deadline(t), "x", fmt.Sprint(i), []int{1}))
	}
	require.ErrorAs(t, second.Keep(deadline(t), "x", "one more", []int{1}), &refused)

	// By another number of descriptors, by none, and with all that there is of it.
	require.NoError(t, second.Keep(deadline(t), "x", "out", []int{1}))
	require.NoError(t, second.Keep(deadline(t), "x", "out", nil))
	forgotten(t, second, "x")
	list, err := second.List(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, list)
	assert.LessOrEqual(t, len(descriptors(t, child.PID)), len(before)+1, "one connection, perhaps")
}

func descriptors(t *testing.T, pid int) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	return list
}

// Whatever is on its socket, it lives, and serves others.
func TestGarbage(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	c, child := supervised(t, dir)
	p, in := waiting(t, c, "x", 7)
	before := len(descriptors(t, child.PID))
	rng := rand.New(rand.NewPCG(1, 2))
	pipe := make([]int, 2)
	require.NoError(t, unix.Pipe2(pipe, unix.O_CLOEXEC))
	defer closeAll(pipe)
	raw := func(data []byte, fds ...int) {
		conn, err := dial(dir, Version)
		require.NoError(t, err)
		defer conn.close()
		defer conn.until(deadline(t))()
		require.NoError(t, conn.raw.Write(func(fd uintptr) bool {
			var oob []byte
			if len(fds) > 0 {
				oob = unix.UnixRights(fds...)
			}
			_, err := unix.SendmsgN(int(fd), data, oob, nil, unix.MSG_NOSIGNAL)
			return err != unix.EAGAIN
		}))
		_, got, _ := conn.receive() // an error, a refusal, or the end
		closeAll(got)
	}
	raw([]byte{1}, pipe[0]) // a message that is in a pipe
	raw([]byte{1})
	raw(make([]byte, inline+100))
	raw([]byte{0, 99}) // another version
	whole := func(m *message) []byte {
		return encode(t, m)
	}
	for _, m := range []*message{
		{Op: opLaunch, ID: "y", FD: -1},
		{Op: opLaunch, ID: "../y", FD: -1},
		{Op: opExit, ID: "x", FD: -1},
		{Op: opAck, ID: "x", FD: -1},
		{Op: opFind, FD: -1},
		{Op: opReply, ID: "x", FD: -1},
		{Op: 200, ID: "x", FD: -1},
		{Op: opTaken, ID: "x", FD: -1},
		{Op: opKept, ID: "x", FD: -1},
	} {
		if m.Op != opTaken { // which has no reply
			raw(whole(m), pipe...)
		}
		for range 10 {
			data := whole(m)
			data[rng.IntN(len(data))] ^= byte(1 + rng.IntN(255))
			if data[2] != byte(opTaken) && data[2] != byte(opForget) {
				raw(data, pipe...)
			}
		}
	}
	require.NoError(t, in.Close())
	exit, err := c.Exit(deadline(t), "x", p)
	require.NoError(t, err)
	assert.Equal(t, 7, exit.Code)
	forgotten(t, c, "x")
	_, err = c.List(deadline(t))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(descriptors(t, child.PID)), before+maxFree, "it has closed what it was given")
}

func encode(t testing.TB, m *message) []byte {
	t.Helper()
	a, b := socketpair(t)
	defer b.close()
	require.NoError(t, a.send(m))
	require.NoError(t, a.close())
	data := make([]byte, inline)
	n := 0
	require.NoError(t, b.raw.Read(func(fd uintptr) bool {
		n, _, _, _, _ = unix.Recvmsg(int(fd), data, nil, 0)
		return true
	}))
	return data[:n]
}

func socketpair(t testing.TB) (a, b *conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	a, err = newConn(fds[0])
	require.NoError(t, err)
	b, err = newConn(fds[1])
	require.NoError(t, err)
	return a, b
}

// A supervisor of another version goes on, with its children, beside the new one,
// and how they end is told all the same.
func TestVersions(t *testing.T) {
	testutil.CheckLeaks(t)
	dir := t.TempDir()
	old, _ := supervised(t, dir)
	p, in := waiting(t, old, "x", 7)
	require.NoError(t, old.Close())

	c := NewClient(dir)
	c.version = Version + 1
	_, _, err := c.Connect(deadline(t))
	require.ErrorIs(t, err, ErrNone)
	child, err := c.Start(deadline(t), testutil.ChildArgs(t, "supervise"), launch.Spec{})
	require.NoError(t, err)
	q, in2 := waiting(t, c, "y", 8)
	time.AfterFunc(30*time.Millisecond, func() { _ = in.Close() }) // it has not ended when it is asked for
	exit, err := c.Exit(deadline(t), "x", p)
	require.NoError(t, err)
	assert.Equal(t, 7, exit.Code)
	require.NoError(t, c.Ack(deadline(t), "x", p))
	require.NoError(t, in2.Close())
	exit, err = c.Exit(deadline(t), "y", q)
	require.NoError(t, err)
	assert.Equal(t, 8, exit.Code)
	forgotten(t, c, "y")

	again := NewClient(dir)
	forgotten(t, again, "x")
	require.NoError(t, again.Close())
	require.NoError(t, c.Close())
	_, err = child.Wait()
	require.NoError(t, err)
	require.NoError(t, child.PIDFD.Close())
}

// A program that is no supervisor is an error, not a wait.
func TestNoSupervisor(t *testing.T) {
	testutil.CheckLeaks(t)
	c := NewClient(t.TempDir() + "/" + strings.Repeat("long/", 40) + "dir")
	defer c.Close()
	_, _, err := c.Connect(deadline(t))
	require.ErrorIs(t, err, ErrNone)
	_, err = c.Start(deadline(t), testutil.ChildArgs(t, "other"), launch.Spec{})
	require.ErrorContains(t, err, "is no supervisor: it ended with status 3")
	_, err = c.Start(deadline(t), []string{"/nowhere"}, launch.Spec{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = c.Connect(deadline(t))
	require.ErrorIs(t, err, ErrNone)

	_, _, err = Inherited()
	require.ErrorContains(t, err, "is started by the library")
}

// What is on disk of another boot, of another process or of nobody's making is no
// exit status.
func TestExitsOnDisk(t *testing.T) {
	e, err := openExits(t.TempDir())
	require.NoError(t, err)
	p := Process{PID: 5, Inode: 6}
	want := Exit{Known: true, Code: 1, At: time.Unix(1, 0).UTC()}
	require.NoError(t, e.write("x", Process{PID: 1}, Exit{}))
	require.NoError(t, e.write("x", p, want), "in the place of an older one")
	got, err := e.read("x", p)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	_, err = e.read("x", Process{PID: 5, Inode: 7})
	require.ErrorIs(t, err, ErrUnknown)
	boot := e.boot
	e.boot = "another"
	_, err = e.read("x", p)
	require.ErrorIs(t, err, ErrUnknown)
	e.boot = boot
	require.NoError(t, os.WriteFile(e.dir.Path("x"), []byte("{}garbage"), 0o600))
	_, err = e.read("x", p)
	require.ErrorIs(t, err, ErrUnknown)
	require.NoError(t, e.remove("x"))
	require.NoError(t, e.remove("x"))
}
