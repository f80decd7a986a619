// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/devfilter"
	"github.com/stretchr/testify/require"
)

// fakeTree is a group's files with the kernel's rules about them, as far as
// plans have to mind them. It is what plans and shrinks see of a group, and
// nothing below that: a test scripts with it what no machine does on command, such
// as reclaim that frees nothing, brings pages back, or stalls a group in a
// bubble's time, and changes any file between two writes. Everything else is
// tested on package cgroupfake's machine, whose rules are checked against the
// kernel's; TestFakesAgree holds those here to the same.
type fakeTree struct {
	t      testing.TB
	v      int
	files  map[string]string
	parent map[string]string
	top    map[string]string

	name string // of a group in a tree
	up   *fakeTree
	kids []*fakeTree
	gone bool

	populated bool     // has processes
	log       *fakeLog // of a tree

	anon, cache uint64 // what memory is used for; cache can be reclaimed
	swap        uint64 // anonymous memory that can go to swap
	refaults    uint64 // pages
	noReclaim   bool   // v2: no memory.reclaim
	stuck       bool   // nothing can be reclaimed, though it looks so
	mayKill     bool   // memory.max below the usage is no mistake
	blocks      string // the file that a write to does not return from
	onReclaim   func() // called when the kernel reclaims
	noPressure  bool
	pressure    Pressure
	stalling    float64 // the share of time, since then, in which tasks wait for memory
	since       time.Time
	parentRatio float64 // v1: the parent's share of CPU; 0 is no limit
	childRatio  float64 // v1: the largest child's

	writes []string
	// fault, if set, is asked before each write. It returns the error to
	// answer with, and whether the write takes effect all the same.
	fault func(n int, file string) (err error, takes bool)
}

// fakeLog is what was written in a tree, and what then held in all of it.
type fakeLog struct {
	writes []string
	n      int
	after  func()
	fault  func(n int) (err error, takes bool) // as in a group, for all of them
}

const fakePage = 4096

// newFamily is a tree of groups in the order of their paths.
func newFamily(t testing.TB, version int, paths ...string) (groups []*fakeTree) {
	log := new(fakeLog)
	for _, p := range paths {
		f := newFake(t, version)
		f.name, f.log = p, log
		for _, up := range groups {
			if up.name == path.Dir(p) {
				f.up = up
				up.kids = append(up.kids, f)
			}
		}
		groups = append(groups, f)
	}
	return groups
}

// planFamily plans for the groups that are named.
func planFamily(groups []*fakeTree, wants map[string]Resources) ([]Change, error) {
	var named []group
	for _, f := range groups {
		if r, ok := wants[f.name]; ok {
			named = append(named, group{f, f.name, &r})
		}
	}
	return plan(fakePage, named, UpdateConfig{})
}

func newFake(t testing.TB, version int) *fakeTree {
	f := &fakeTree{t: t, v: version, files: make(map[string]string)}
	f.parent = map[string]string{"cpuset.cpus": "0-7", "cpuset.mems": "0"}
	common := []string{"pids.max", "rdma.max", "cpuset.cpus", "cpuset.mems", "misc.max", "cpu.idle"}
	v2 := []string{
		"cpu.weight", "cpu.max", "cpu.max.burst", partitionFile,
		maxFile, highFile, "memory.low", "memory.min", "memory.swap.max", "memory.swap.high", "memory.oom.group",
		costWeightFile, bfqWeightFile, "io.max", "io.latency", prioKnob, devicesBPF,
		"hugetlb.2MB.max", "hugetlb.2MB.rsvd.max",
	}
	v1 := []string{
		"cpu.shares", quotaV1, periodV1, "cpu.cfs_burst_us", limitV1, memswV1, devicesList,
		bfqWeightV1, bfqDeviceWeightV1, prioFileV1, "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes",
	}
	for _, t := range throttleV1 {
		v1 = append(v1, t.file)
	}
	for _, name := range slices.Concat(common, map[int][]string{1: v1, 2: v2}[version]) {
		f.files[name] = freshFiles[name]
	}
	f.files["misc.max"], f.files[rdmaFile] = "sev max\nsgx_epc max", "mlx5_0 hca_handle=max hca_object=max"
	for name := range f.files {
		if strings.HasPrefix(name, "hugetlb") {
			f.files[name] = strconv.FormatUint(1<<63-1<<21, 10)
			if version == 2 {
				f.files[name] = wordMax
			}
		}
	}
	if version == 1 {
		f.files["cpuset.cpus"], f.files["cpuset.mems"] = "0-7", "0"
		f.files[limitV1], f.files[memswV1] = unlimitedV1, unlimitedV1
	}
	return f
}

const unlimitedV1 = "9223372036854771712"

// clone is a copy on its own.
func (f *fakeTree) clone() *fakeTree {
	g := *f
	g.files, g.writes = maps.Clone(f.files), nil
	return &g
}

// state is everything that an update may change.
func (f *fakeTree) state() map[string]string {
	s := maps.Clone(f.files)
	for name, text := range s {
		// The order of lines says nothing.
		lines := strings.Split(text, "\n")
		slices.Sort(lines)
		s[name] = strings.Join(lines, "\n")
	}
	return s
}

func (f *fakeTree) version(Controller) int                { return f.v }
func (f *fakeTree) path(_ Controller, file string) string { return path.Join("/fake", f.name, file) }

func (f *fakeTree) place(Controller) string { return f.name }

func (f *fakeTree) children(Controller) bool { return f.childRatio > 0 || len(f.kids) > 0 }

func (f *fakeTree) below(Controller) (names []string) {
	for _, k := range f.kids {
		names = append(names, path.Base(k.name))
	}
	return names
}

// planOf plans for one group.
func planOf(t tree, r Resources) ([]Change, error) {
	return plan(fakePage, []group{{t, "fake", &r}}, UpdateConfig{})
}

func (f *fakeTree) read(_ Controller, file string) (string, error) {
	files := f.files
	if rest, ok := strings.CutPrefix(file, "../"); ok {
		if files, file = f.parent, rest; f.up != nil {
			return f.up.read(0, file)
		}
		file = strings.TrimSuffix(file, effective)
	} else if name, rest, ok := strings.Cut(file, "/"); ok && name != "" {
		for _, k := range f.kids {
			if path.Base(k.name) == name {
				return k.read(0, rest)
			}
		}
	} else if rest, ok := strings.CutPrefix(file, "/"); ok {
		files, file = f.top, rest
	}
	switch file {
	case "cgroup.events":
		return map[bool]string{false: "populated 0\nfrozen 0", true: "populated 1\nfrozen 0"}[f.populated], nil
	case "cpuset.cpus.effective", "cpuset.mems.effective":
		return f.effective(strings.TrimSuffix(file, effective)), nil
	case usageFile, usageV1, memswUsageV1:
		return strconv.FormatUint(f.anon+f.cache, 10), nil
	case "memory.stat":
		return fmt.Sprintf("inactive_anon %[1]d\ninactive_file %[2]d\ntotal_inactive_anon %[1]d\ntotal_inactive_file %[2]d"+
			"\nworkingset_refault_anon %[3]d\ntotal_workingset_refault_file %[3]d", f.anon, f.cache, f.refaults), nil
	}
	if f.gone {
		return "", &goneError{&FileError{Op: "read", Path: file, Err: syscall.ENODEV}}
	}
	text, ok := files[file]
	if !ok {
		return "", &FileError{Op: "open", Path: file, Err: os.ErrNotExist}
	}
	return text, nil
}

func (f *fakeTree) write(_ Controller, file, data string) error {
	f.writes = append(f.writes, file+"="+data)
	if f.log != nil {
		f.log.writes = append(f.log.writes, f.name+" "+file+"="+data)
		if f.log.after != nil {
			defer f.log.after()
		}
		f.log.n++
	}
	if f.gone {
		return &goneError{&FileError{Op: "write", Path: file, Data: data, Err: syscall.ENODEV}}
	}
	var injected error
	fault := f.fault
	if f.log != nil && f.log.fault != nil {
		fault = func(int, string) (error, bool) { return f.log.fault(f.log.n - 1) }
	}
	if fault != nil {
		err, takes := fault(len(f.writes)-1, file)
		if err != nil && !takes {
			return &FileError{Op: "write", Path: file, Data: data, Err: err}
		}
		injected = err
	}
	if err := f.take(file, strings.TrimSpace(data)); err != nil {
		return &FileError{Op: "write", Path: file, Data: data, Err: err}
	}
	if injected != nil {
		return &FileError{Op: "write", Path: file, Data: data, Err: injected}
	}
	return nil
}

func (f *fakeTree) amount(file string) uint64 {
	n, err := parseAmount(f.files[file])
	require.NoError(f.t, err, file)
	return n
}

var errInjected = errors.New("injected")

// take is what the kernel does with data written to file.
func (f *fakeTree) take(file, data string) error {
	n, nErr := parseAmount(data)
	text := func(unlimited string, unit uint64) string {
		if n == noLimit {
			return unlimited
		}
		return strconv.FormatUint(n-n%unit, 10)
	}
	switch file {
	case reclaimFile:
		if f.noReclaim {
			return syscall.ENOENT
		}
		usage := f.anon + f.cache
		f.reclaim(usage - min(usage, n))
		if f.anon+f.cache > usage-min(usage, n) {
			return syscall.EAGAIN
		}
		return nil
	case devicesAllow, devicesDeny:
	default:
		if _, ok := f.files[file]; !ok {
			return syscall.ENOENT
		}
	}
	switch file {
	case "cpu.weight", "cpu.shares":
		if f.files["cpu.idle"] == "1" {
			return syscall.EINVAL
		}
	case "cpu.idle":
		weight := map[string]map[int]string{"0": {1: "1024", 2: "100"}, "1": {1: "3", 2: "0"}}[data][f.v]
		if f.files[file] != data {
			f.files[map[int]string{1: "cpu.shares", 2: "cpu.weight"}[f.v]] = weight
		}
	case "cpu.max":
		b, err := parseCPUMax(data)
		if err != nil || b.quota < f.amount("cpu.max.burst") {
			return syscall.EINVAL
		}
	case "cpu.max.burst":
		if b, _ := parseCPUMax(f.files["cpu.max"]); n > b.quota {
			return syscall.EINVAL
		}
	case "cpu.cfs_burst_us":
		if n > f.amount(quotaV1) {
			return syscall.EINVAL
		}
	case quotaV1:
		return f.bandwidthV1(bandwidth{n, f.amount(periodV1)})
	case periodV1:
		return f.bandwidthV1(bandwidth{f.amount(quotaV1), n})
	case "cpuset.cpus", "cpuset.mems":
		if data == "" && (f.v == 1 || f.populated && f.files[file] != "") {
			return syscall.ENOSPC
		}
		if err := f.nested(file, data); err != nil {
			return err
		}
		if word, _, _ := strings.Cut(f.files[partitionFile], " "); f.v == 2 && file == "cpuset.cpus" && word != "member" {
			if f.files[partitionFile] = word; data == "" {
				f.files[partitionFile] += " invalid (cpus unavailable)"
			}
		}
	case partitionFile:
		if data != "member" && f.files["cpuset.cpus"] == "" {
			data += " invalid (cpus unavailable)"
		}
	case limitV1:
		if n > f.amount(memswV1) {
			return syscall.EINVAL
		}
		if f.reclaim(n); f.anon+f.cache > n {
			return syscall.EBUSY
		}
		data = text(unlimitedV1, fakePage)
	case memswV1:
		if n < f.amount(limitV1) {
			return syscall.EINVAL
		}
		data = text(unlimitedV1, fakePage)
	case maxFile:
		if f.anon+f.cache > n && !f.mayKill {
			f.t.Errorf("memory.max %d with %d in use kills", n, f.anon+f.cache)
		}
		data = text(wordMax, fakePage)
	case highFile:
		f.reclaim(n)
		data = text(wordMax, fakePage)
	case "memory.low", "memory.min", "memory.swap.max", "memory.swap.high":
		data = text(wordMax, fakePage)
	case devicesBPF:
		data = f.program(data)
	case devicesAllow, devicesDeny:
		return f.device(file == devicesAllow, data)
	case prioKnob, prioFileV1:
		if err := new(IOPriority).UnmarshalText([]byte(data)); err != nil || data == "" {
			return syscall.EINVAL
		}
	case bfqWeightV1, "pids.max", "memory.oom.group":
	default:
		if strings.HasPrefix(file, "hugetlb") {
			data = text(map[int]string{1: strconv.FormatUint(1<<63-1<<21, 10), 2: wordMax}[f.v], 2<<20)
			break
		}
		key, rest, ok := strings.Cut(data, " ")
		if !ok {
			return syscall.EINVAL
		}
		f.setLine(file, key, rest)
		return nil
	}
	if nErr != nil && !strings.ContainsAny(file, "(") && strings.HasPrefix(file, "memory") {
		return syscall.EINVAL
	}
	f.files[file] = data
	return nil
}

// reclaim drops cache and swaps until the usage is at most n, if it can.
func (f *fakeTree) reclaim(n uint64) {
	if f.anon+f.cache <= n || f.stuck {
		return
	}
	if f.onReclaim != nil {
		f.onReclaim()
	}
	f.cache -= min(f.cache, f.anon+f.cache-n)
	out := min(f.swap, f.anon+f.cache-min(n, f.anon+f.cache))
	f.anon, f.swap = f.anon-out, f.swap-out
}

func (f *fakeTree) writeSlow(ctx context.Context, ctl Controller, file, data string, _ int) error {
	if file == f.blocks {
		<-ctx.Done()
		return &BlockedError{Path: f.path(ctl, file), Data: data, Err: ctx.Err()}
	}
	return f.write(ctl, file, data)
}

func (f *fakeTree) stalls(p *Pressure) error {
	if f.noPressure {
		return &UnsupportedError{Feature: "memory.pressure", Reason: "psi=0"}
	}
	*p = f.pressure
	if f.stalling > 0 {
		p.Some.Total += time.Duration(f.stalling * float64(time.Since(f.since)))
		p.Full.Total += time.Duration(f.stalling * float64(time.Since(f.since)))
	}
	return nil
}

func (f *fakeTree) swapFree(int) uint64 { return f.swap }

func (f *fakeTree) bandwidthV1(b bandwidth) error {
	ratio := float64(b.quota) / float64(b.period)
	if b.quota == noLimit {
		ratio = f.parentRatio
	}
	ceiling, floor := math.Inf(1), 0.0
	for up := f.up; up != nil; up = up.up {
		ceiling = min(ceiling, up.share())
	}
	for _, k := range f.kids {
		floor = max(floor, k.shareBelow())
	}
	switch {
	case b.quota < 1000, b.period < 1000, b.quota < f.amount("cpu.cfs_burst_us"):
		return syscall.EINVAL
	case b.quota != noLimit && (ratio > ceiling || ratio < floor):
		return syscall.EINVAL
	case f.parentRatio > 0 && ratio > f.parentRatio, b.quota != noLimit && ratio < f.childRatio:
		return syscall.EINVAL
	}
	f.files[quotaV1] = amountText(b.quota, "-1")
	f.files[periodV1] = strconv.FormatUint(b.period, 10)
	return nil
}

// share is a group's own limit of CPU.
func (f *fakeTree) share() float64 { return bandwidth{f.amount(quotaV1), f.amount(periodV1)}.ratio() }

// shareBelow is the largest limit in the group and below it: who has none has
// the parent's.
func (f *fakeTree) shareBelow() float64 {
	if s := f.share(); !math.IsInf(s, 1) {
		return s
	}
	most := 0.0
	for _, k := range f.kids {
		most = max(most, k.shareBelow())
	}
	return most
}

// effective is what the group has of a list. Nobody here asks for what the parent
// has not.
func (f *fakeTree) effective(file string) string {
	switch {
	case f.files[file] != "":
		return f.files[file]
	case f.up != nil:
		return f.up.effective(file)
	}
	return f.parent[file]
}

// nested is what v1's kernel says to a list that does not lie between the
// parent's and the children's (validate_change in kernel/cgroup/cpuset.c).
func (f *fakeTree) nested(file, list string) error {
	if f.v != 1 {
		return nil
	}
	for _, k := range f.kids {
		if !spansOf(list).holds(spansOf(k.files[file])) {
			return syscall.EBUSY
		}
	}
	if f.up != nil && !spansOf(f.up.files[file]).holds(spansOf(list)) {
		return syscall.EACCES
	}
	return nil
}

// setLine updates the fields of a line, or the line, and drops it when it says
// nothing any more.
func (f *fakeTree) setLine(file, key, rest string) {
	var lines []string
	old, had := lineOf(f.files[file], key)
	if names := map[string][]string{
		"io.max": {"rbps", "wbps", "riops", "wiops"}, rdmaFile: {"hca_handle", "hca_object"}, "io.latency": {"target"},
	}[file]; names != nil {
		merged, nothing := "", true
		for _, name := range names {
			v, ok := fieldOf(rest, name)
			if !ok {
				if v, ok = fieldOf(old, name); !ok || !had {
					v = wordMax
				}
			}
			nothing = nothing && (v == wordMax || file == "io.latency" && v == "0")
			merged += " " + name + "=" + v
		}
		if rest = merged[1:]; nothing && file != rdmaFile {
			rest = ""
		}
	}
	if rest == "default" || rest == "0" || rest == "" {
		rest = ""
	}
	if rest != "" {
		rest = key + " " + rest
	}
	for line := range strings.Lines(f.files[file]) {
		if k, _, _ := strings.Cut(line, " "); k == key {
			line, rest = rest, ""
		}
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if rest != "" {
		lines = append(lines, rest)
	}
	f.files[file] = strings.Join(lines, "\n")
}

func (f *fakeTree) program(data string) string {
	switch {
	case data == wordAll:
		return wordAll
	case strings.HasPrefix(data, programPrefix):
		return data
	}
	d, err := parseDevices(data)
	require.NoError(f.t, err)
	// The same rules again would be another program; a comparison of states
	// must not see that.
	return programPrefix + "7 " + devfilter.Name(d.filter())
}

func (f *fakeTree) device(allow bool, data string) error {
	rules, all := parseDevicesList(f.files[devicesList])
	switch {
	case data == everyDevice && allow:
		f.files[devicesList] = everyDevice
		return nil
	case data == everyDevice:
		f.files[devicesList] = ""
		return nil
	case all:
		return nil
	}
	r, err := ParseDeviceRule(data)
	require.NoError(f.t, err)
	var lines []string
	for _, x := range mergeRules(append(rules, DeviceRule{Type: r.Type, Major: r.Major, Minor: r.Minor, AnyMajor: r.AnyMajor, AnyMinor: r.AnyMinor})) {
		if x.node() == r.node() {
			if x.Access &^= r.Access; allow {
				x.Access |= accessOf(rules, r) | r.Access
			}
		}
		if x.Access != 0 {
			lines = append(lines, x.String())
		}
	}
	f.files[devicesList] = strings.Join(lines, "\n")
	return nil
}
