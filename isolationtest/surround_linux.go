// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/logs"
	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// offered makes the sandbox if the driver does what its spec asks for. What it does
// not do it has to refuse, and that is a skip.
func (s *stand) offered(spec isolation.Spec) *isolation.Sandbox {
	s.Helper()
	box, err := s.host.Create(s.ctx(), spec)
	if errors.Is(err, isolation.ErrNotSupported) {
		testutil.Skip(s.TB, noInterface, "%v", err)
	}
	require.NoError(s, err)
	return box
}

// logged: what the process writes is in the log, also after the agent was restarted.
func logged(s *stand) {
	spec := s.spec("a", "say", "said")
	spec.Logs = &logs.Config{}
	box := s.offered(spec)
	if s.starts() {
		require.NoError(s, box.Start(s.ctx()))
	}
	s.ended(box)
	said := func(box *isolation.Sandbox) (lines []string) {
		s.eventually(func() bool {
			lines = nil
			for line, err := range logs.Read(box.LogDirectory(), logs.CRI) {
				if errors.Is(err, os.ErrNotExist) { // nothing was taken over yet
					return false
				}
				require.NoError(s, err)
				lines = append(lines, line.Stream.String()+" "+string(line.Text))
			}
			return len(lines) == 2
		}, "two lines, and not %q", lines)
		return lines
	}
	want := []string{"stdout said", "stderr said"}
	assert.ElementsMatch(s, want, said(box))
	s.reopen()
	box, err := s.host.Sandbox(s.ctx(), box.ID())
	require.NoError(s, err)
	assert.ElementsMatch(s, want, said(box))
	dir := box.LogDirectory()
	s.destroyed(box)
	assert.NoDirExists(s, dir)
}

// networked: the process is in the network that its spec asks for, and
// in the same after the agent was restarted.
func networked(s *stand) {
	testutil.Require(s.TB, testutil.NetAdmin)
	s.cfg.Network.Pins = filepath.Join(s.cfg.Root, "../pins") // the machine may have no /run/netns
	s.reopen()
	spec := s.spec("a", "wait")
	spec.Network = netns.Spec{Mode: netns.ModeNew, Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "77"}}
	box := s.offered(spec)
	if s.starts() {
		require.NoError(s, box.Start(s.ctx()))
	}
	s.eventually(func() bool { return len(s.processes()) >= 1 }, "a process")
	pid := s.check(box).PID
	inside := func() string {
		ns, err := os.Readlink(procPath(pid, "ns/net"))
		require.NoError(s, err)
		return ns
	}
	own, err := os.Readlink("/proc/self/ns/net")
	require.NoError(s, err)
	before := inside()
	require.NotEqual(s, own, before)
	ttl, err := os.ReadFile(procPath(pid, "net/snmp"))
	require.NoError(s, err)
	assert.Contains(s, string(ttl), " 77 ", "the sysctl")
	s.reopen()
	box, err = s.host.Sandbox(s.ctx(), box.ID())
	require.NoError(s, err)
	assert.Equal(s, before, inside())
	var st netns.InterfaceStats
	require.ErrorIs(s, box.StatNetwork("eth9", &st), os.ErrNotExist)
	s.destroyed(box)
}

// classes: best effort is together in one group, beside the others.
func classes(s *stand) {
	above := func(id string, class elastic.Class) string {
		spec := s.spec(id, "wait")
		spec.Class = class
		box := s.offered(spec)
		if s.starts() {
			require.NoError(s, box.Start(s.ctx()))
		}
		s.eventually(func() bool { return s.check(box).PID != 0 }, "a process")
		st := s.check(box)
		dirs := map[string]bool{}
		for _, g := range s.groups(st.PID) {
			if rest, in := strings.CutPrefix(g.dir, filepath.Join(g.mount.Path, s.at.Parent)+"/"); in {
				dirs[filepath.Dir(rest)] = true
			}
		}
		require.Len(s, dirs, 1, "the groups of %s are in one place", spec.ID)
		for dir := range dirs {
			return dir
		}
		return ""
	}
	together := above("a", elastic.BestEffort)
	assert.Equal(s, together, above("b", elastic.BestEffort))
	assert.NotEqual(s, together, above("c", elastic.Standard))
}
