// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// mostHeldKnobs bounds the descriptors that a group's updates keep open: with
// one at hand a knob is read, written and read back in a fifth of the time that
// opening its file takes, and a control loop changes few knobs of many groups.
const mostHeldKnobs = 12

// knobFiles are the files of knobs that updates keep open for the next one.
type knobFiles struct {
	files atomic.Pointer[[]knobFile] // at most mostHeldKnobs; replaced, never changed

	mu     sync.Mutex // held for replacing
	closed bool
}

type knobFile struct {
	n    *node
	name string
	path string
	*kernfs.File
}

// get returns the file if it is held, or nil.
func (k *knobFiles) get(n *node, name string) *knobFile {
	files := k.files.Load()
	if files == nil {
		return nil
	}
	for i := range *files {
		if f := &(*files)[i]; f.n == n && f.name == name {
			return f
		}
	}
	return nil
}

// keep takes ownership of f if there is room.
func (k *knobFiles) keep(b *budget, n *node, name string, f *kernfs.File) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	var files []knobFile
	if held := k.files.Load(); held != nil {
		files = *held
	}
	if k.closed || len(files) >= mostHeldKnobs || !b.take(1) {
		return false
	}
	files = append(slices.Clip(files), knobFile{n, name, f.Path(), f})
	k.files.Store(&files)
	return true
}

// close frees the descriptors.
func (k *knobFiles) close(b *budget) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	files := k.files.Swap(nil)
	if files == nil {
		return nil
	}
	b.give(len(*files))
	var errs []error
	for _, f := range *files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// groupTree is a group's files as a plan sees them.
type groupTree struct {
	c        *Cgroup
	at       view
	update   bool // files will be written, so they are opened for that and kept
	fresh    bool // nobody has written to the group: it holds what the kernel gave it
	own      []ownFile
	programs programs
	buf      *[]byte
	texts    texts
}

// ownFile is a file that this update opened and cannot leave open.
type ownFile struct {
	n    *node
	name string
	*kernfs.File
}

// filesOf is the files of c, until close.
func filesOf(c *Cgroup) *groupTree {
	t := new(groupTree)
	t.open(c)
	return t
}

// open makes t the files of c, until close.
func (t *groupTree) open(c *Cgroup) {
	t.c, t.buf = c, c.root.scratch.get()
	t.look()
}

// look finds out where the files are.
func (t *groupTree) look() { t.at = t.c.view() }

// close frees what the tree holds; the group's own files stay open.
func (t *groupTree) close() {
	t.c.root.scratch.put(t.buf)
	t.buf = nil
	for _, f := range t.own {
		_ = f.Close()
	}
	t.programs.close()
}

// in is the directory that has ctl's files, or nil while the group is not under
// it. v2's device programs are attached in the unified tree.
func (t *groupTree) in(ctl Controller) *node {
	n := t.at.at[ctl]
	if n == nil && ctl == ControllerDevices && t.c.root.where[ctl] == nil {
		n = t.at.uni
	}
	return n
}

func (t *groupTree) version(ctl Controller) int {
	h := t.c.root.where[ctl]
	if n := t.in(ctl); n != nil {
		h = n.in
	}
	switch {
	case h == nil:
		return 0
	case h.v2:
		return 2
	}
	return 1
}

func (t *groupTree) path(ctl Controller, file string) string {
	if n := t.in(ctl); n != nil {
		if f := t.c.knobs.get(n, file); f != nil {
			return f.path
		}
		return n.dir.Join(file)
	}
	if h := t.c.root.where[ctl]; h != nil {
		return h.dir.Join(path.Join(t.c.path, file))
	}
	return file
}

func (t *groupTree) place(ctl Controller) string {
	if n := t.in(ctl); n != nil {
		return n.path
	}
	return t.c.path
}

func (t *groupTree) children(ctl Controller) bool {
	n := t.in(ctl)
	if n == nil {
		return false
	}
	below, err := n.dir.Subdirs()
	return err != nil || below > 0
}

func (t *groupTree) below(ctl Controller) []string {
	n := t.in(ctl)
	if n == nil {
		return nil
	}
	names, _ := n.dir.Dirs() // for messages
	return names
}

// file returns the file and whether the caller has to close it.
func (t *groupTree) file(n *node, name string) (f *kernfs.File, mine bool, err error) {
	if f := t.c.knobs.get(n, name); f != nil {
		return f.File, false, nil
	}
	for _, f := range t.own {
		if f.n == n && f.name == name {
			return f.File, false, nil
		}
	}
	flag, writeOnly := os.O_RDONLY, name == devicesAllow || name == devicesDeny
	switch {
	case writeOnly:
		flag = os.O_WRONLY
	case t.update && !readOnly(name):
		flag = os.O_RDWR
	}
	f, err = n.dir.Open(name, flag)
	switch {
	case err != nil:
		return nil, false, n.failed(err)
	case !t.update:
		return f, true, nil
	case writeOnly, !t.c.knobs.keep(&t.c.root.budget, n, name, f):
		t.own = append(t.own, ownFile{n, name, f})
	}
	return f, false, nil
}

// readOnly reports whether the kernel has no writer for the file.
func readOnly(name string) bool {
	return name == usageFile || name == devicesList || name == "cgroup.events" || strings.HasSuffix(name, effective) || strings.HasSuffix(name, ".stat") ||
		strings.HasSuffix(name, ".usage_in_bytes") || strings.HasSuffix(name, ".current")
}

func (t *groupTree) read(ctl Controller, file string) (string, error) {
	n := t.in(ctl)
	if n == nil {
		return t.unborn(ctl, file)
	}
	if f := t.c.knobs.get(n, file); f != nil {
		if got, err := f.ReadAt(*t.buf); err == nil && got < len(*t.buf) {
			return t.texts.add((*t.buf)[:got]), nil
		}
	}
	if t.fresh && ctl != ControllerDevices { // v1 gives a new group its parent's devices
		if text, ok := freshFiles[file]; ok {
			return text, nil
		}
	}
	if file == devicesBPF && !n.dir.IsFake() {
		text, err := t.programs.read(n)
		return text, n.failed(err)
	}
	if strings.IndexByte(file, '/') >= 0 {
		b, err := n.relative(file)
		return strings.TrimSpace(string(b)), err
	}
	f, mine, err := t.file(n, file)
	if err != nil {
		return "", err
	}
	if mine {
		defer f.Close()
	}
	b, err := read(f, t.buf)
	return t.texts.add(b), n.failed(err)
}

// relative reads a file of another group; see [tree].
func (n *node) relative(file string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(file, "/"); ok {
		return n.in.dir.ReadFile(rest, nil)
	}
	if rest, ok := strings.CutPrefix(file, "../"); ok {
		return n.in.dir.ReadFile(path.Join(path.Dir(n.path), rest), nil)
	}
	return n.dir.ReadFile(file, nil)
}

func (t *groupTree) write(ctl Controller, file, data string) error {
	n := t.in(ctl)
	if n == nil {
		return &FileError{Op: "write", Path: t.path(ctl, file), Data: data, Err: os.ErrNotExist}
	}
	if file == devicesBPF && !n.dir.IsFake() {
		return n.failed(t.programs.write(n, data))
	}
	f, mine, err := t.file(n, file)
	if err != nil {
		return err
	}
	if mine {
		defer f.Close()
	}
	return n.failed(f.Write(data))
}

func (t *groupTree) writeSlow(ctx context.Context, ctl Controller, file, data string, flag int) error {
	n := t.in(ctl)
	if n == nil {
		return &FileError{Op: "write", Path: t.path(ctl, file), Data: data, Err: os.ErrNotExist}
	}
	return n.slow.write(ctx, n, file, data, flag)
}

func (t *groupTree) stalls(p *Pressure) error { return t.c.Pressure(PressureMemory, p) }

// texts holds small strings in few allocations.
type texts struct{ strings.Builder }

// add keeps b without the white space around it.
func (t *texts) add(b []byte) string {
	for len(b) > 0 && b[len(b)-1] <= ' ' {
		b = b[:len(b)-1]
	}
	for len(b) > 0 && b[0] <= ' ' {
		b = b[1:]
	}
	if t.Len()+len(b) > t.Cap() {
		t.Builder = strings.Builder{}
		t.Grow(max(128, len(b)))
	}
	from := t.Len()
	t.Write(b)
	return t.String()[from:]
}

// unborn is what a file holds in a group that is not under its controller yet:
// what the kernel gives a new group. Whether this kernel has the file is not
// known before.
func (t *groupTree) unborn(ctl Controller, file string) (string, error) {
	if t.c.foreign != nil {
		return "", t.c.notUnder(ctl)
	}
	if file == "/io.cost.qos" {
		return "", os.ErrNotExist
	}
	if text, ok := freshFiles[file]; ok {
		return text, nil
	}
	if ctl == ControllerHugeTLB {
		return wordMax, nil
	}
	if file != miscFile {
		return "", nil
	}
	b, err := t.c.root.where[ctl].dir.ReadFile("misc.capacity", nil)
	var lines strings.Builder
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(line, " ")
		lines.WriteString(name + " " + wordMax + "\n")
	}
	return strings.TrimSpace(lines.String()), err
}

// freshFiles are the files of a new group that are not empty.
var freshFiles = map[string]string{
	"cpu.weight": "100", "cpu.max": "max 100000", "cpu.max.burst": "0", "cpu.idle": "0",
	"cpu.shares": "1024", quotaV1: "-1", periodV1: "100000", "cpu.cfs_burst_us": "0",
	partitionFile: "member",
	maxFile:       wordMax, highFile: wordMax, "memory.low": "0", "memory.min": "0",
	"memory.swap.max": wordMax, "memory.swap.high": wordMax, "memory.oom.group": "0", usageFile: "0",
	limitV1: "-1", memswV1: "-1", usageV1: "0", memswUsageV1: "0",
	costWeightFile: "default 100", bfqWeightFile: "default 100", bfqWeightV1: "100",
	prioKnob: "no-change", prioFileV1: "no-change",
	"pids.max":  wordMax,
	devicesList: everyDevice, devicesBPF: wordAll,
}
