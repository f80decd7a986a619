// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"testing"

	"github.com/caisson-run/caisson/internal/cgroupfake"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLoad gives back what it was given.
func TestLoad(t *testing.T) {
	const literal = `/
	cgroup.subtree_control: cpu io memory pids
agent
	cgroup.subtree_control: cpu io memory
	pids.max: 100
agent/web
	cpu.max: 50000 100000
	io.max: 8:0 rbps=1048576 wbps=max riops=max wiops=max | 8:16 rbps=max wbps=max riops=100 wiops=max
	memory.max: 536870912
	usage: anon 1048576, file 4096
	processes: 4194305 4194306
`
	f := Parse(t, V2, literal)
	require.Equal(t, literal, f.Tree())
	// Processes may be given as a number, and comments in between.
	again := Parse(t, V2, "agent\n\tpids.max: 100\nagent/web\n\t# two\n\tprocesses: 2\n\n\tusage: anon 1M, file 4096\n"+
		"\tcpu.max: 50000 100000\n\tmemory.max: 536870912\n"+
		"\tio.max: 8:0 rbps=1048576 wbps=max riops=max wiops=max | 8:16 rbps=max wbps=max riops=100 wiops=max\n")
	require.Equal(t, literal, again.Tree())

	hybrid := Parse(t, Hybrid, "a (not in cpu, unified)\n\tpids.max: 5\n")
	assert.Equal(t, "a (not in cpu, unified)\n\tpids.max: 5\n", hybrid.Tree())
}

func TestSave(t *testing.T) {
	f := New(t, V2)
	f.Load("a\n\tpids.max: 5\n\tprocesses: 1\n\tusage: anon 1M\n")
	before := f.Tree()
	restore := f.Save()
	require.NoError(t, f.Write("a", "pids.max", "7"))
	require.NoError(t, f.Mkdir("a/b"))
	pid := f.Start("a/b")
	f.SetUsage("a", 5)
	require.NotEqual(t, before, f.Tree())
	restore()
	require.Equal(t, before, f.Tree())
	require.False(t, f.Alive(pid))
	restore()
	require.Equal(t, before, f.Tree(), "as often as one likes")
}

// FuzzLoad: a literal that is taken makes a tree whose text makes the same tree.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"", "a\n", "a\n\tcpu.max: 1000 2000\n", "a/b\n\tprocesses: 3\n", "/\n\tcgroup.subtree_control: cpu\n",
		"a (not in cpu)\n", "a\n\tusage: anon 1M\n", "a\n\tio.max: 8:0 rbps=1 | 8:16 wbps=2\n", "# x\n\ta\n", "a\n\tno: file\n",
	} {
		f.Add(true, s)
		f.Add(false, s)
	}
	f.Fuzz(func(t *testing.T, v2 bool, literal string) {
		layout := Hybrid
		if v2 {
			layout = V2
		}
		m := cgroupfake.New(cgroupfake.Config{Layout: layout})
		if len(literal) > 1<<12 || m.Load(literal) != nil {
			return
		}
		tree := m.Tree()
		again := cgroupfake.New(cgroupfake.Config{Layout: layout})
		require.NoError(t, again.Load(tree), "%s", tree)
		require.Equal(t, tree, again.Tree())
	})
}
