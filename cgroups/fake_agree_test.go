// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/caisson-run/caisson/internal/cgroupfake"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/require"
)

// TestFakesAgree takes groups of [fakeTree] and those of a fake machine, whose
// rules are those of the kernels of the matrix, through the same random updates:
// the plans are the same, and so is what comes of them.
func TestFakesAgree(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for version, layout := range map[int]cgroupfake.Layout{1: cgroupfake.V1, 2: cgroupfake.V2} {
		for _, names := range [][]string{{"p"}, family} {
			t.Run(fmt.Sprintf("v%d, groups: %d", version, len(names)), func(t *testing.T) {
				b := newBoth(t, version, layout, names)
				r := randomResources{rand.New(rand.NewPCG(3, uint64(version))), version}
				rounds, applied := 1500, 0
				if testutil.Emulated() {
					rounds /= 30
				}
				for range rounds {
					wants := map[string]Resources{"p": r.resources()}
					if len(names) > 1 {
						wants = r.tree()
					}
					if b.step(t, wants) {
						applied++
					}
				}
				require.Greater(t, applied, rounds/3)
			})
		}
	}
}

// both are the same groups of each kind.
type both struct {
	ours  []*fakeTree
	names []string
	of    map[string]*Cgroup
}

func newBoth(t *testing.T, version int, layout cgroupfake.Layout, names []string) *both {
	b := &both{ours: newFamily(t, version, names...), names: names, of: make(map[string]*Cgroup)}
	root, err := OpenFake(cgroupfake.New(cgroupfake.Config{
		Layout: layout, PageSize: fakePage, CostEnabled: true,
		Misc: map[string]uint64{"sev": 1 << 30, "sgx_epc": 1 << 30}, RDMA: []string{"mlx5_0"},
	}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	for i, name := range names {
		c, err := root.Create(name, 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		b.of[name] = c
		b.ours[i].top = map[string]string{"io.cost.qos": "8:0 enable=1\n8:16 enable=1"}
	}
	return b
}

// step updates both, and reports whether that could be.
func (b *both) step(t *testing.T, wants map[string]Resources) bool {
	t.Helper()
	var theirs []group
	for _, name := range b.names {
		want, named := wants[name]
		if !named {
			continue
		}
		// The machine has no file io.prio.class, and the others do not hold the
		// device lists of parent and child against each other.
		want.IO.Priority = IOPriorityKeep
		if len(b.names) > 1 && b.ours[0].v == 1 {
			want.Devices = Devices{}
		}
		wants[name] = want
		tree := filesOf(b.of[name])
		tree.update = true
		defer tree.close()
		theirs = append(theirs, group{tree, name, &want})
	}
	a, err := planFamily(b.ours, wants)
	c, errThere := plan(fakePage, theirs, UpdateConfig{})
	require.Equal(t, errThere == nil, err == nil, "%+v: %v, and of the machine %v", wants, err, errThere)
	if err != nil {
		return false
	}
	require.Equal(t, writesOf(c), writesOf(a), "%+v", wants)
	err, errThere = apply(t.Context(), a), apply(t.Context(), c)
	require.Equal(t, errThere == nil, err == nil, "%s: %v, and of the machine %v", Plan{Changes: a}, err, errThere)
	for i, f := range b.ours {
		now, err := readResources(f, everyPageSize(), func(Controller) bool { return true })
		require.NoError(t, err)
		now.IO.Priority = IOPriorityKeep
		there, err := b.of[b.names[i]].Resources()
		require.NoError(t, err)
		require.True(t, now.Equal(there), "%s after %s\n%+v, and of the machine\n%+v", f.name, Plan{Changes: a}, now, there)
	}
	return err == nil
}

func writesOf(changes []Change) (all []string) {
	for _, c := range changes {
		all = append(all, c.Cgroup+"/"+c.File+"="+c.New)
	}
	return all
}
