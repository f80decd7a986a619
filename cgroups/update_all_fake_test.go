// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/cgroups/cgroupstest"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// family makes up limits of a parent and its children that fit together: no
// child has more than the parent.
func (w walk) family(n int) []cgroups.Resources {
	all := make([]cgroups.Resources, n)
	cpus := w.Perm(4)[:2+w.IntN(2)]
	parent := 1 + w.IntN(4)
	period := time.Duration(20+20*w.IntN(3)) * time.Millisecond
	for i := range all {
		r := &all[i]
		share := parent
		if i > 0 {
			share = 1 + w.IntN(parent)
		}
		r.CPU.Max = cgroups.Quota(time.Duration(share)*period/2, period)
		if i > 0 {
			r.CPUSet.CPUs = cgroups.SetOf(cpus[w.IntN(len(cpus))])
		} else {
			r.CPUSet.CPUs = cgroups.SetOf(cpus...)
		}
		if w.some() {
			r.PIDs.Max = cgroups.Count(uint64(10 * share))
		}
		r.Memory.Max = cgroups.Bytes(uint64(share) << 20)
		if !w.v2 {
			r.Memory.Swap = cgroups.Bytes(uint64(w.IntN(2)) << 20)
		}
		if w.some() {
			r.CPU.Weight = cgroups.WeightOf(uint16(100 * share))
		}
	}
	return all
}

// TestUpdateAllAtomic moves a parent and three children from limits to limits
// under the kernel's rules about both. Each write is made to fail, once without
// and once after taking effect, and the whole tree must be as it was.
func TestUpdateAllAtomic(t *testing.T) {
	testutil.Require(t, testutil.Real)
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			fake := cgroupstest.New(t, l.Layout)
			paths := []string{"p", "p/a", "p/b", "p/c"}
			groups := make([]*cgroups.Cgroup, len(paths))
			for i, path := range paths {
				var err error
				groups[i], err = fake.Root().Create(path, 0)
				require.NoError(t, err)
				defer groups[i].Close()
				if i > 0 {
					fake.Start(path)
				}
			}
			w := walk{rand.New(rand.NewPCG(11, uint64(l.Layout))), l.Layout == cgroupstest.V2}
			wants := func() (all []cgroups.GroupResources) {
				for i, r := range w.family(len(groups)) {
					all = append(all, cgroups.GroupResources{Cgroup: groups[i], Resources: r})
				}
				w.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				return all
			}
			_, err := fake.Root().UpdateAll(t.Context(), wants())
			require.NoError(t, err, "%s", fake.Tree())
			rounds, plans := 150, 0
			for range rounds {
				want := wants()
				p, err := fake.Root().PlanAll(want)
				require.NoError(t, err)
				before := fake.Tree()
				for at := range len(p.Changes) {
					for _, takes := range []bool{false, true} {
						x := fake.Fail("*", syscall.EIO).At(at + 1)
						if takes {
							x.TakesEffect()
						}
						_, err := fake.Root().UpdateAll(t.Context(), want)
						x.Lift()
						require.ErrorIs(t, err, syscall.EIO)
						var u *cgroups.UpdateError
						require.ErrorAs(t, err, &u, "write %d of\n%s", at+1, p)
						require.NoError(t, u.Undo, "write %d of\n%s\nfrom\n%s", at+1, p, before)
						if now := fake.Tree(); now != before {
							require.Equal(t, before, now, "write %d (takes effect: %t) of\n%s", at+1, takes, p)
						}
						plans++
					}
				}
				_, err = fake.Root().UpdateAll(t.Context(), want)
				require.NoError(t, err, "%s\nfrom\n%s", p, before)
				again, err := fake.Root().PlanAll(want)
				require.NoError(t, err)
				require.Empty(t, again.Changes)
			}
			t.Logf("%d plans with a fault", plans)
			assert.Greater(t, plans, 10*rounds)
		})
	}
}
