// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// randomResources names some knobs with some values, all valid. Few values, so
// that updates meet what they wrote before.
type randomResources struct {
	*rand.Rand
	v int
}

func (r randomResources) some() bool { return r.IntN(3) == 0 }

func (r randomResources) limit(unit uint64) Limit {
	switch r.IntN(6) {
	case 0:
		return Max()
	case 1:
		return Default()
	default:
		return Count(unit * (1 + r.Uint64N(8)))
	}
}

func (r randomResources) weight() Weight {
	if r.some() {
		return DefaultWeight()
	}
	return WeightOf([]uint16{1, 2, 99, 100, 101, 500, 10000}[r.IntN(7)])
}

func (r randomResources) cpu() (c CPU) {
	if r.some() {
		c.Idle = SwitchOf(r.some())
	}
	if c.Idle != On && r.some() {
		c.Weight = r.weight()
	}
	if r.some() {
		quota, period := time.Duration(5+5*r.IntN(4))*time.Millisecond, time.Duration(10+10*r.IntN(4))*time.Millisecond
		c.Max = []Bandwidth{NoQuota(), DefaultBandwidth(), Quota(quota, period), Quota(2*quota, 2*period)}[r.IntN(4)]
	}
	if r.some() {
		most := 40
		if q, _, ok := c.Max.Value(); ok {
			most = int(q / time.Millisecond)
		}
		c.Burst = DurationOf(time.Duration(r.IntN(most+1)) * time.Millisecond)
	}
	return c
}

func (r randomResources) memory() (m Memory) {
	for _, k := range []*Limit{&m.Max, &m.Swap} {
		if r.some() {
			*k = r.limit(1 << 20)
		}
	}
	if r.v == 1 {
		return m
	}
	for _, k := range []*Limit{&m.High, &m.Low, &m.Min, &m.SwapHigh} {
		if r.some() {
			*k = r.limit(1 << 20)
		}
	}
	if r.some() {
		m.OOMGroup = SwitchOf(r.some())
	}
	return m
}

func (r randomResources) io() (k IO) {
	if r.some() {
		k.Priority = IOPriorityNoChange + IOPriority(r.IntN(5))
	}
	if r.some() {
		k.Weight = r.weight()
	}
	for minor := range uint32(2) {
		if !r.some() {
			continue
		}
		d := IODevice{Device: Device{8, minor * 16}}
		for _, l := range []*Limit{&d.ReadBytes, &d.WriteBytes, &d.ReadOps, &d.WriteOps} {
			if r.some() {
				*l = r.limit(1 << 20)
			}
		}
		if r.some() {
			d.Weight = r.weight()
		}
		if r.v == 2 && r.some() {
			d.Latency = DurationOf(time.Duration(r.IntN(3)) * time.Millisecond)
		}
		k.Devices = append(k.Devices, d)
	}
	return k
}

func (r randomResources) resources() (res Resources) {
	res.CPU, res.Memory, res.IO = r.cpu(), r.memory(), r.io()
	if r.some() {
		res.PIDs.Max = r.limit(10)
	}
	if r.some() {
		res.CPUSet.CPUs = []Set{SetOf(0, 1), SetOf(2), DefaultSet()}[r.IntN(3)]
	}
	if r.v == 2 && r.some() {
		res.CPUSet.Partition = PartitionMember + Partition(r.IntN(3))
	}
	if r.some() {
		res.HugeTLB = []HugeTLB{{PageSize: 2 << 20, Max: r.limit(1 << 20 * 2), Reserved: r.limit(2 << 20)}}
	}
	if r.some() {
		res.Misc = []Misc{{Name: "sev", Max: r.limit(1)}}
	}
	if r.some() {
		res.RDMA = []RDMA{{Device: "mlx5_0", Handles: r.limit(1)}}
	}
	if r.some() {
		rules := []DeviceRule{
			{Type: CharDevice, Major: 1, Minor: 3, Access: deviceAll},
			{Type: BlockDevice, Major: 8, AnyMinor: true, Access: DeviceRead},
			{Type: CharDevice, Major: 1, Minor: 3, Access: DeviceRead},
			{Type: CharDevice, AnyMajor: true, AnyMinor: true, Access: DeviceMknod},
		}
		r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		res.Devices = AllowDevices(rules[:r.IntN(len(rules)+1)]...)
		if r.some() {
			res.Devices = AllDevices()
		}
	}
	return res
}

// tree names knobs of some of the groups, as family has them. What v1's kernel
// wants of a parent and its children mostly holds, and not always.
func (r randomResources) tree() map[string]Resources {
	wants := make(map[string]Resources)
	first := r.IntN(4)
	sets := map[string]Set{"p": SetOf(first, first+1, first+2, first+3), "p/a": SetOf(first, first+1), "p/a/x": SetOf(first), "p/b": SetOf(first+2, first+3)}
	shares := map[string][]float64{"p": {1, 2, 4}, "p/a": {0.5, 1}, "p/a/x": {0.25, 0.5}, "p/b": {0.5, 1, 2}}
	move, resize := r.some(), r.some()
	for _, name := range family {
		want := Resources{}
		if r.IntN(2) == 0 {
			want = r.resources()
		}
		want.CPU.Max, want.CPU.Burst, want.CPUSet = Bandwidth{}, Duration{}, CPUSet{}
		if move {
			if want.CPUSet.CPUs = sets[name]; name != "p" && r.IntN(8) == 0 {
				want.CPUSet.CPUs = DefaultSet()
			}
		}
		if resize || r.IntN(8) == 0 {
			period := time.Duration(10+10*r.IntN(4)) * time.Millisecond
			share := shares[name][r.IntN(len(shares[name]))]
			if want.CPU.Max = Quota(time.Duration(share*float64(period)), period); r.IntN(16) == 0 {
				want.CPU.Max = NoQuota()
			}
		}
		if !want.IsZero() {
			wants[name] = want
		}
	}
	return wants
}

// family are the groups of a tree.
var family = []string{"p", "p/a", "p/a/x", "p/b"}

// use makes the groups use some memory, within their limits.
func (r randomResources) use(groups []*fakeTree) {
	name := map[int]string{1: limitV1, 2: maxFile}[r.v]
	for _, f := range groups {
		f.anon, f.cache = r.Uint64N(1<<21), r.Uint64N(1<<20)
		if limit := f.amount(name); f.anon+f.cache > limit {
			f.anon, f.cache = limit/2, limit/4
		}
	}
}

// TestPlanRandomWalk updates a group, or a tree of groups, again and again. Each
// plan must go through by the kernel's rules, leave nothing to change, and touch
// only what is named. Then faults are injected at each of its writes.
func TestPlanRandomWalk(t *testing.T) {
	var applied, refused atomic.Int64
	t.Cleanup(func() { // after the parallel ones
		t.Logf("%d plans gone through, %d that the kernel refused", applied.Load(), refused.Load())
		if !testutil.Emulated() {
			assert.GreaterOrEqual(t, applied.Load(), int64(10_000))
		}
	})
	for _, version := range []int{1, 2} {
		for _, names := range [][]string{{"p"}, family} {
			t.Run(fmt.Sprintf("v%d, groups: %d", version, len(names)), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { // shrinks take time
					rounds := map[int]int{1: 5000, 4: 2400}[len(names)]
					if testutil.Emulated() {
						rounds /= 40
					}
					r := randomResources{rand.New(rand.NewPCG(1, uint64(version))), version}
					groups := newFamily(t, version, names...)
					for _, f := range groups {
						f.top = map[string]string{"io.cost.qos": "8:0 enable=1"}
					}
					w := randomWalk{T: t, randomResources: r, groups: groups}
					for range rounds {
						w.step(len(names) > 1)
					}
					t.Logf("%d plans, %d refused before anything was touched, %d by the kernel; %d faults, %d of them not restorable",
						w.plans, w.refused, w.failed, w.faults, w.left)
					applied.Add(int64(w.plans))
					refused.Add(int64(w.failed))
					assert.Greater(t, w.plans, rounds*5/12)
					assert.Greater(t, w.faults, 10*w.plans)
					assert.Greater(t, w.left, w.plans)
				})
			})
		}
	}
}

// randomWalk is a random walk of a tree.
type randomWalk struct {
	*testing.T
	randomResources
	groups                               []*fakeTree
	plans, refused, failed, faults, left int
}

func (w *randomWalk) step(several bool) {
	wants := map[string]Resources{"p": w.resources()}
	if several {
		wants = w.tree()
	}
	w.use(w.groups)
	changes, err := planFamily(w.groups, wants)
	if err != nil {
		w.refused++
		return
	}
	before := save(w.groups)
	w.groups[0].log.n = 0
	if err := apply(w.Context(), changes); err != nil {
		// Not every group may become a partition, or shrink, or fits in between others.
		var undone *UpdateError
		require.ErrorAs(w, err, &undone)
		require.NoError(w, undone.Undo)
		require.Contains(w, []string{"cpuset.cpus", partitionFile, limitV1, maxFile, quotaV1, periodV1}, undone.Failed.File, "%v\n%s", err, Plan{Changes: changes})
		w.as(before, changes)
		w.failed++
		return
	}
	if len(changes) == 0 {
		return
	}
	after, writes := save(w.groups), w.groups[0].log.n
	before.restore()
	for at := range writes {
		w.fault(before, changes, at, false, false)
		w.fault(before, changes, at, true, false)
		w.fault(before, changes, at, w.some(), true)
	}
	after.restore()
	w.plans++
	w.settled(wants)
	if w.Failed() {
		w.Fatalf("%+v\n%s", wants, Plan{Changes: changes})
	}
}

// settled checks that a second update, and one with what is read back, has
// nothing to do.
func (w *randomWalk) settled(wants map[string]Resources) {
	again, err := planFamily(w.groups, wants)
	require.NoError(w, err)
	require.Empty(w, again, "a second time there is something to do for %+v", wants)
	for _, f := range w.groups {
		now, err := readResources(f, everyPageSize(), func(Controller) bool { return true })
		require.NoError(w, err)
		if f.v == 2 {
			now.Devices = Devices{} // unreadable
		}
		same, err := planOf(f, now)
		require.NoError(w, err)
		require.Empty(w, same, "what was read is not what is")
	}
}

// fault lets a write of the update fail, and with undoToo a later one that takes
// it back as well.
func (w *randomWalk) fault(before *saved, changes []Change, at int, takes, undoToo bool) {
	log := w.groups[0].log
	log.n = 0
	second, secondTakes := -1, false
	if undoToo {
		second, secondTakes = at+1+w.IntN(at+1), w.some()
	}
	log.fault = func(n int) (error, bool) {
		switch n {
		case at:
			return errInjected, takes
		case second:
			return errInjected, secondTakes
		}
		return nil, true
	}
	err := apply(w.Context(), changes)
	log.fault = nil
	var u *UpdateError
	require.ErrorAs(w, err, &u)
	require.ErrorIs(w, u.Err, errInjected)
	w.faults++
	if u.Undo == nil {
		require.Empty(w, u.Left)
		require.Equal(w, len(changes), len(u.Applied)+1+len(u.Pending))
		require.Len(w, u.Undone, len(u.Applied))
		w.as(before, changes)
		return
	}
	require.True(w, undoToo, "%v\n%s", err, Plan{Changes: changes})
	require.NotEmpty(w, u.Left)
	w.left++
	w.told(before, changes, u)
	before.restore()
}

// as checks that all is as before.
func (w *randomWalk) as(before *saved, changes []Change) {
	if file := before.differs(); file != "" {
		require.Fail(w, "not as before", "%s\n%s", file, Plan{Changes: changes})
	}
	before.restore()
}

// told checks that what is not as before is in Left, and nothing else is.
func (w *randomWalk) told(before *saved, changes []Change, u *UpdateError) {
	for i := range u.Left {
		l := &u.Left[i]
		text, err := l.in.read(l.Controller, l.checked())
		require.NoError(w, err)
		require.Equal(w, l.part(text), l.Now)
	}
	for i, f := range before.groups {
		for name, text := range f.files {
			if canonText(text) == canonText(before.files[i][name]) {
				continue
			}
			told := func(c Change) bool { return c.in == tree(f) && c.checked() == name && c.before() != c.Now }
			require.True(w, slices.ContainsFunc(u.Left, told), "%s holds %q, not %q as before\n%v\n%s", name, text, before.files[i][name], u, Plan{Changes: changes})
		}
	}
	for _, l := range u.Left {
		i := slices.Index(before.groups, l.in.(*fakeTree))
		require.NotEqual(w, canonText(before.files[i][l.checked()]), canonText(before.groups[i].files[l.checked()]), "%s is as before", l.File)
	}
}

// canonText is a file's text whatever the order of its lines.
func canonText(text string) string {
	if !strings.Contains(text, "\n") {
		return text
	}
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// saved is what groups held.
type saved struct {
	groups []*fakeTree
	files  []map[string]string
	memory [][4]uint64
}

func save(groups []*fakeTree) *saved {
	s := &saved{groups: groups}
	for _, f := range groups {
		s.files = append(s.files, maps.Clone(f.files))
		s.memory = append(s.memory, [4]uint64{f.anon, f.cache, f.swap, f.refaults})
	}
	return s
}

// differs names a file that holds something else by now.
func (s *saved) differs() string {
	for i, f := range s.groups {
		if maps.Equal(f.files, s.files[i]) { // most often, and cheap
			continue
		}
		for name, text := range s.files[i] {
			if now := f.files[name]; now != text && canonText(now) != canonText(text) {
				return fmt.Sprintf("%s: %q, was %q", f.path(0, name), now, text)
			}
		}
	}
	return ""
}

func (s *saved) restore() {
	for i, f := range s.groups {
		m := s.memory[i]
		f.anon, f.cache, f.swap, f.refaults, f.writes = m[0], m[1], m[2], m[3], nil
		if !maps.Equal(f.files, s.files[i]) {
			f.files = maps.Clone(s.files[i])
		}
	}
	s.groups[0].log.writes = nil
}
