// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// processes are those with the token in their arguments, in whatever pid
// namespace: what runs for a sandbox of this stand. Dead ones that nobody has
// waited for have no arguments any more.
func (s *stand) processes() []int {
	s.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(s, err)
	var pids []int
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err != nil || !slices.Contains(strings.Split(string(line), "\x00"), s.token) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		require.NoError(s, err)
		pids = append(pids, pid)
	}
	return pids
}

// group is one place of a process's group.
type group struct {
	mount testutil.CgroupMount
	dir   string
}

// groups are the directories of a process's groups, in every hierarchy.
func (s *stand) groups(pid int) []group {
	s.Helper()
	mounts, err := testutil.CgroupMounts()
	require.NoError(s, err)
	text, err := os.ReadFile(procPath(pid, "cgroup"))
	require.NoError(s, err)
	var all []group
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		require.Len(s, f, 3)
		for _, m := range mounts {
			same := m.V2 && f[1] == "" || !m.V2 && f[1] != "" && slices.Contains(m.Controllers, strings.Split(f[1], ",")[0])
			if same {
				all = append(all, group{m, filepath.Join(m.Path, f[2])})
				break
			}
		}
	}
	return all
}

// knob reads a control file of a process's group: by the name of v2 or, where the
// controller is in a hierarchy of v1, of that. A controller that the machine lacks
// is a skip.
func (s *stand) knob(pid int, controller, v2, v1 string) string {
	s.Helper()
	for _, g := range s.groups(pid) {
		if !slices.Contains(g.mount.Controllers, controller) {
			continue
		}
		name := v1
		if g.mount.V2 {
			name = v2
		}
		text, err := os.ReadFile(filepath.Join(g.dir, name))
		require.NoError(s, err)
		return strings.TrimSpace(string(text))
	}
	testutil.Skip(s.TB, testutil.Cgroup2(controller), "no hierarchy has the controller")
	return ""
}

// noGroup wants no group of the sandbox to be left in the parent.
func (s *stand) noGroup(id string) {
	s.Helper()
	mounts, err := testutil.CgroupMounts()
	require.NoError(s, err)
	for _, m := range mounts {
		_, err := os.Stat(filepath.Join(m.Path, s.at.Parent, id))
		assert.ErrorIs(s, err, fs.ErrNotExist, "group of %s", id)
	}
}

// cpuTime is what the process has used, in clock ticks: fields 14 and 15 of
// proc_pid_stat(5), of which the second is a name in parentheses.
func (s *stand) cpuTime(pid int) int {
	s.Helper()
	text, err := os.ReadFile(procPath(pid, "stat"))
	require.NoError(s, err)
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	require.Greater(s, len(f), 13)
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	require.NoError(s, errors.Join(err1, err2))
	return user + system
}

func procPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// signal sends to every process of the stand's sandboxes, from outside.
func (s *stand) signal(sig syscall.Signal) {
	s.Helper()
	for _, pid := range s.processes() {
		if err := syscall.Kill(pid, sig); err != nil {
			require.ErrorIs(s, err, syscall.ESRCH)
		}
	}
}

// removeGroups removes what is left of groups that are the stand's.
func (s *stand) removeGroups(groups []group) {
	s.Helper()
	for _, g := range groups {
		rest, inside := strings.CutPrefix(g.dir, filepath.Join(g.mount.Path, s.at.Parent)+"/")
		if !inside || rest == "" {
			continue
		}
		s.eventually(func() bool {
			err := syscall.Rmdir(g.dir)
			return err == nil || errors.Is(err, fs.ErrNotExist)
		}, "removing %s", g.dir)
	}
}
