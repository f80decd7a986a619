// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
)

func pidsMax(n uint64) cgroups.Resources {
	return cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(n)}}
}

func memoryMax(n uint64) cgroups.Resources {
	return cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(n)}}
}

func readOps(n uint64) cgroups.Resources {
	return cgroups.Resources{IO: cgroups.IO{Devices: []cgroups.IODevice{{Device: cgroups.Device{Major: 8}, ReadOps: cgroups.Count(n)}}}}
}

// TestLayersAreTheHighestClaim lets random owners claim, renew, release and let
// expire. After each step each knob has the value of the highest live claim that
// names it, or what was there before, and nobody is refused but for one who is not
// lower.
func TestLayersAreTheHighestClaim(t *testing.T) {
	testutil.Require(t, testutil.Real)
	rng := rand.New(rand.NewPCG(1, 9))
	kinds := []func(uint64) cgroups.Resources{pidsMax, memoryMax, readOps}
	for range 300 {
		base := pidsMax(1) // memory.max and io are in nobody's Spec
		l := layers{Base: base, Former: memoryMax(2).Merge(readOps(3))}
		var model []lease
		now := time.Unix(0, 0)
		for range 40 {
			switch owner := fmt.Sprint("o", rng.IntN(5)); rng.IntN(5) {
			case 0, 1, 2: // claim
				c := lease{Owner: owner, Priority: rng.IntN(4), Until: now.Add(time.Duration(1+rng.IntN(30)) * time.Second)}
				for _, kind := range kinds {
					if rng.IntN(2) == 0 {
						c.Resources = c.Resources.Merge(kind(100 + rng.Uint64N(1000)))
					}
				}
				if c.Resources.IsZero() {
					continue
				}
				others := slices.DeleteFunc(slices.Clone(model), func(o lease) bool { return o.Owner == owner || !now.Before(o.Until) })
				refused := slices.ContainsFunc(others, func(o lease) bool {
					return o.Priority >= c.Priority && slices.ContainsFunc(knobs(o.Resources), func(n string) bool { return slices.Contains(knobs(c.Resources), n) })
				})
				next, err := l.expired(now).put(c)
				if refused {
					require.ErrorIs(t, err, ErrConflict)
					continue
				}
				require.NoError(t, err)
				l, model = next, append(others, c)
			case 3:
				l = l.drop(func(c lease) bool { return c.Owner == owner })
				model = slices.DeleteFunc(model, func(c lease) bool { return c.Owner == owner })
			case 4:
				now = now.Add(time.Duration(rng.IntN(20)) * time.Second)
				l = l.expired(now)
				model = slices.DeleteFunc(model, func(c lease) bool { return !now.Before(c.Until) })
			}
			for _, kind := range kinds {
				name := knobs(kind(1))[0]
				want := l.Former.Merge(base).Pick(name)
				best := -1
				for _, c := range model {
					if v := c.Resources.Pick(name); !v.IsZero() && c.Priority > best {
						best, want = c.Priority, v
					}
				}
				require.True(t, want.Equal(l.values([]string{name})), "%s: %+v", name, l)
			}
			if len(model) == 0 {
				require.True(t, l.resources().Equal(base))
				require.Equal(t, layers{}, l.pruned())
			}
		}
	}
}

// TestLayersOfIdle: the kernel has no weight for an idle group and forgets the
// one it had.
func TestLayersOfIdle(t *testing.T) {
	weight := func(n uint16) cgroups.Resources {
		return cgroups.Resources{CPU: cgroups.CPU{Weight: cgroups.WeightOf(n)}}
	}
	idle := cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.On}}
	l := layers{Base: weight(200), Former: cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.Off}}}
	squeezed, err := l.put(lease{Owner: "a", Priority: 1, Resources: idle})
	require.NoError(t, err)
	assert.True(t, squeezed.resources().Equal(idle))
	names := changed(l, squeezed)
	assert.ElementsMatch(t, []string{"cpu.idle", "cpu.weight"}, names)
	assert.True(t, l.values(names).Equal(weight(200).Merge(cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.Off}})), "both come back")

	_, err = squeezed.put(lease{Owner: "b", Priority: 1, Resources: weight(5)})
	require.ErrorIs(t, err, ErrConflict, "the two knobs are one")
	over, err := squeezed.put(lease{Owner: "b", Priority: 2, Resources: weight(5)})
	require.NoError(t, err)
	assert.Equal(t, cgroups.Off, over.resources().CPU.Idle, "who wants a weight wants it to run")
	assert.Equal(t, cgroups.WeightOf(5), over.resources().CPU.Weight)
	require.NoError(t, over.resources().Validate())
}

func TestLayersOnDisk(t *testing.T) {
	l, err := layers{Base: pidsMax(1), Former: memoryMax(2)}.put(lease{Owner: "a", Priority: -1, Until: time.Unix(7, 0).UTC(), Resources: memoryMax(3)})
	require.NoError(t, err)
	b, err := json.Marshal(entry{Layers: &l})
	require.NoError(t, err)
	var e entry
	require.NoError(t, json.Unmarshal(b, &e))
	assert.True(t, l.same(*e.Layers), "%s", b)
	assert.True(t, l.Base.Equal(e.Layers.Base) && l.Former.Equal(e.Layers.Former))
	r := newRecord(Spec{}, "boot", time.Now())
	require.NoError(t, r.apply(entry{Version: recordVersion, Layers: &l}))
	assert.Len(t, r.claims().Claims, 1)
	require.NoError(t, r.apply(entry{Layers: &layers{}}))
	assert.Empty(t, r.claims().Claims)
}

func TestConflictError(t *testing.T) {
	err := &ConflictError{Knob: "cpu.max", Owner: "burst", Priority: 3, Until: time.Unix(0, 0).UTC()}
	assert.EqualError(t, err, `cpu.max is held by "burst" with priority 3 until 1970-01-01T00:00:00Z: claim it with a higher priority, or wait`)
}

func TestClaimIsValidated(t *testing.T) {
	good := Claim{Owner: "a", Lease: time.Second, Resources: pidsMax(1)}
	require.NoError(t, good.validate())
	for _, c := range []Claim{
		{}, {Owner: "../a", Lease: time.Second, Resources: pidsMax(1)}, {Owner: "a", Resources: pidsMax(1)},
		{Owner: "a", Lease: -1, Resources: pidsMax(1)}, {Owner: "a", Lease: 25 * time.Hour, Resources: pidsMax(1)},
		{Owner: "a", Lease: time.Second}, {Owner: "a", Lease: time.Second, Resources: pidsMax(1 << 40)},
	} {
		require.ErrorIs(t, c.validate(), ErrInvalid, "%+v", c)
	}
}
