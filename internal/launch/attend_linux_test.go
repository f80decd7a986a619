// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

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
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

func TestAnnounce(t *testing.T) {
	testutil.CheckLeaks(t)
	own, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	for _, ns := range []Namespaces{0, NewUser} {
		if ns == NewUser {
			testutil.Require(t, testutil.UserNamespaces)
		}
		s := Spec{Namespaces: ns}
		if ns == NewUser {
			s.UIDMaps, s.GIDMaps = ownIDs, []IDMap{{0, uint32(os.Getegid()), 1}}
		}
		s.Args = testutil.ChildArgs(t, "exit", "7")
		s.Path = s.Args[0]
		told := 0
		p, err := CompileAnnounced(s, func(pid, pidfd int) error {
			told = pid
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			assert.NoError(t, err)
			assert.Equal(t, own, exe, "it has not gone on")
			return unix.PidfdSendSignal(pidfd, 0, nil, 0)
		})
		require.NoError(t, err)
		c, err := p.Start(context.Background())
		require.NoError(t, err)
		assert.Equal(t, c.PID, told)
		status, err := c.Wait()
		require.NoError(t, err)
		assert.Equal(t, 7, status.Code)
		require.NoError(t, c.PIDFD.Close())

		no := errors.New("no")
		p, err = CompileAnnounced(s, func(pid, _ int) error { told = pid; return no })
		require.NoError(t, err)
		_, err = p.Start(context.Background())
		var step *StepError
		require.ErrorAs(t, err, &step)
		assert.ErrorIs(t, err, no)
		assert.Contains(t, step.Step, "wait for the parent to tell of this process")
		assert.ErrorIs(t, unix.Kill(told, 0), unix.ESRCH)
	}
	_, err = CompileAnnounced(Spec{Path: "/proc/self/exe", Join: []Join{{Kind: NewPID}}}, func(int, int) error { return nil })
	var bad *SpecError
	assert.ErrorAs(t, err, &bad)
}

// announceAgent starts two children at once and lets neither go on.
func announceAgent() int {
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			p, err := CompileAnnounced(Spec{Path: "/proc/self/exe", Args: []string{os.Args[0], os.Args[1], "agent", "hang"}},
				func(pid, _ int) error { fmt.Println(pid); select {} })
			if err == nil {
				_, err = p.Start(context.Background())
			}
			fmt.Println(err)
		})
	}
	wait.Wait()
	return 1
}

// TestAnnounceOrphans: children that nobody has written down end with their parent.
func TestAnnounceOrphans(t *testing.T) {
	agent := testutil.Child(t, "agent", "announce")
	out, err := agent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, agent.Start())
	var children []int
	lines := bufio.NewScanner(out)
	for range 2 {
		require.True(t, lines.Scan())
		pid, err := strconv.Atoi(lines.Text())
		require.NoError(t, err, lines.Text())
		fd, err := unix.PidfdOpen(pid, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		children = append(children, fd)
	}
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait()
	for _, fd := range children {
		ended, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(testutil.Patience(20*time.Second).Milliseconds()))
		require.NoError(t, err)
		assert.Equal(t, 1, ended, "the child lives on")
	}
}

// ids are those of the process.
func ids([]string) int {
	groups, err := os.Getgroups()
	fmt.Println(os.Getuid(), os.Getgid(), groups, err)
	return 0
}

// The ids of the tests of maps: an ordinary user, and what he is given besides.
const (
	ordinary = 61234
	given    = 712000
	count    = 10
)

// mapper stands in for newuidmap and newgidmap, which set-user-id root makes this
// binary: as they do it looks whose process it is asked to map.
func mapper(kind string, args []string) int {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+args[0], &st); err != nil || int(st.Uid) != os.Getuid() {
		fmt.Printf("process %s is owned by %d: %v\n", args[0], st.Uid, err)
		return 1
	}
	var text strings.Builder
	for line := args[1:]; len(line) >= 3; line = line[3:] {
		if outside, err := strconv.Atoi(line[1]); err != nil || outside != ordinary && (outside < given || outside >= given+count) {
			fmt.Printf("%s range %s is not allowed\n", kind, line[1])
			return 1
		}
		fmt.Fprintln(&text, strings.Join(line[:3], " "))
	}
	if err := os.WriteFile("/proc/"+args[0]+"/"+kind+"_map", []byte(text.String()), 0); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// mapsAgent starts children that take ids which are not the user's own, several
// at once, and then one that asks for too many.
func mapsAgent() int {
	s := Spec{Path: os.Args[0], Args: []string{os.Args[0], os.Args[1], "ids"}, Namespaces: NewUser, Setgroups: true,
		Credential: &Credential{UID: 5, GID: 6, Groups: []uint32{7}}}
	s.UIDMaps = []IDMap{{0, ordinary, 1}, {1, given, count}}
	s.GIDMaps = s.UIDMaps
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			p, err := Compile(s)
			if err == nil {
				var c *Child
				if c, err = p.Start(context.Background()); err == nil {
					_, err = c.Wait()
				}
			}
			if err != nil {
				fmt.Println(err)
			}
		})
	}
	wait.Wait()
	s.UIDMaps = []IDMap{{0, ordinary, 1}, {1, given, 1}, {5, 1, 1}}
	p, err := Compile(s)
	if err == nil {
		_, err = p.Start(context.Background())
	}
	fmt.Println("too many:", errors.Is(err, ErrNotSupported), err)
	return 0
}

// TestIDMapper: an ordinary user's child has the ids that newuidmap and newgidmap
// grant, also while children that have changed their ids hide its files in /proc.
func TestIDMapper(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	dir, err := os.MkdirTemp("", "caisson-mapper-") // t.TempDir is for its owner alone
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	for name, mode := range map[string]os.FileMode{"agent": 0o755, "newuidmap": 0o755 | os.ModeSetuid, "newgidmap": 0o755 | os.ModeSetuid} {
		require.NoError(t, copyFile("/proc/self/exe", filepath.Join(dir, name)))
		require.NoError(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p, err := Compile(Spec{Path: filepath.Join(dir, "agent"), Args: append([]string{filepath.Join(dir, "agent")}, testutil.ChildArgs(t, "agent", "maps")[1:]...),
		Env: []string{"PATH=" + dir}, Files: []int{0, int(w.Fd()), 2}, Credential: &Credential{UID: ordinary, GID: ordinary}})
	require.NoError(t, err)
	agent, err := p.Start(context.Background())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	_, err = agent.Wait()
	require.NoError(t, err)
	require.NoError(t, agent.PIDFD.Close())
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 7, "%s", out)
	for _, line := range lines[:6] {
		assert.Equal(t, "5 6 [7] <nil>", line)
	}
	assert.Contains(t, lines[6], "too many: true")
	assert.Contains(t, lines[6], "uid range 1 is not allowed")
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
