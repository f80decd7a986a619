// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// conformance is the table: scripts of operations on one hierarchy, and what the
// kernel answers. Each runs on the fake as every kernel of the matrix, and on
// the machine's kernel beside the fake of the same release.
//
// A line of a script is one of
//
//	mkdir a/b              make a group
//	rmdir a/b              remove it
//	a/FILE = DATA          write; DATA may be quoted as in Go
//	a/FILE ? TEXT          read: all of it, lines joined with " | "
//	a/FILE ~ LINE          read: it has the line, now or soon
//	start a 64M            start a process that uses so much memory; they are p1, p2, ...
//	start a 64M file       one that reads so much of a file
//	a/FILE = p1            write a process's number
//	alive p1, dead p1      which it is, now or soon
//	hold a/FILE            keep the file open; then "held = DATA" and "held ? TEXT"
//
// followed by "! ERRNO" if it fails, and preceded by "<6.1 " or ">=6.1 " if it
// is for kernels before, or from, a release. "=> TEXT" after a write reads the
// file back. $DISK is the number of a disk.
type conformance struct {
	name    string
	version int    // of the hierarchy
	ctl     string // the controller under which the groups are; "" is none
	needs   string // a file that a group must have; else the case says nothing
	script  string
}

// bench is where a script runs.
type bench interface {
	mkdir(path string) error
	rmdir(path string) error
	open(path, file string) (held, error)
	start(path string, bytes uint64, file bool) (pid int, err error)
	alive(pid int) bool
}

// held is an open file.
type held interface {
	read() (string, error)
	write(data string) error
}

// eventually is how a bench lets time pass until ok.
type eventually func(ok func() bool) bool

// play runs the script and reports the first line that is not as it says.
func (c conformance) play(b bench, kernel Release, disk string, wait eventually) error {
	p := &player{bench: b, wait: wait}
	script := strings.ReplaceAll(c.script, "$DISK", disk)
	for n, l := range strings.Split(script, "\n") {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		if cond, rest, _ := strings.Cut(l, " "); strings.HasPrefix(cond, "<") || strings.HasPrefix(cond, ">=") {
			if !applies(cond, kernel) {
				continue
			}
			l = rest
		}
		if err := p.line(l); err != nil {
			return fmt.Errorf("line %d, %q: %w", n, l, err)
		}
	}
	return nil
}

func applies(cond string, kernel Release) bool {
	r := release(strings.TrimLeft(cond, "<>="))
	before := kernel.Major < r.Major || kernel.Major == r.Major && kernel.Minor < r.Minor
	return before == strings.HasPrefix(cond, "<")
}

func release(text string) (r Release) {
	if _, err := fmt.Sscanf(text, "%d.%d", &r.Major, &r.Minor); err != nil {
		panic(text)
	}
	return r
}

type player struct {
	bench
	wait eventually
	held held
	pids []int
}

var errnos = map[string]error{
	"EINVAL": syscall.EINVAL, "ERANGE": syscall.ERANGE, "EBUSY": syscall.EBUSY, "ENOSPC": syscall.ENOSPC, "EACCES": syscall.EACCES,
	"ENODEV": syscall.ENODEV, "EOPNOTSUPP": syscall.EOPNOTSUPP, "EAGAIN": syscall.EAGAIN, "ENOENT": syscall.ENOENT,
	"EEXIST": syscall.EEXIST, "ESRCH": syscall.ESRCH, "EPERM": syscall.EPERM, "E2BIG": syscall.E2BIG,
}

func (p *player) line(l string) error {
	l, errno, failing := cutLast(l, " ! ")
	var want error
	if failing {
		if want = errnos[errno]; want == nil {
			panic(errno)
		}
	}
	l, back, readBack := cutLast(l, " => ")
	err := p.do(l)
	var wrong *wrongError
	switch {
	case errors.As(err, &wrong):
		return err
	case want == nil && err != nil, want != nil && !errors.Is(err, want):
		return &wrongError{fmt.Sprint(err), fmt.Sprint(want)}
	case readBack:
		target, _, _ := strings.Cut(l, " ")
		return p.do(target + " ? " + back)
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// wrongError is a text that is not as expected.
type wrongError struct{ has, want string }

func (e *wrongError) Error() string { return fmt.Sprintf("has %q, not %q", e.has, e.want) }

func (p *player) do(l string) error {
	f := strings.Fields(l)
	switch f[0] {
	case "mkdir":
		return p.mkdir(f[1])
	case "rmdir":
		return p.rmdir(f[1])
	case "start":
		var bytes uint64
		if len(f) > 2 {
			n, err := strconv.ParseUint(strings.TrimSuffix(f[2], "M"), 10, 64)
			if err != nil {
				panic(l)
			}
			bytes = n << 20
		}
		pid, err := p.start(f[1], bytes, len(f) > 3)
		p.pids = append(p.pids, pid)
		return err
	case "alive", "dead":
		pid := p.pid(f[1])
		if f[0] == "dead" && !p.wait(func() bool { return !p.alive(pid) }) || f[0] == "alive" && !p.alive(pid) {
			return &wrongError{"not " + f[0], f[0]}
		}
		return nil
	case "hold":
		var err error
		p.held, err = p.at(f[1])
		return err
	}
	target, rest, _ := strings.Cut(l, " ")
	op, data, _ := strings.Cut(rest, " ")
	file := p.held
	if target != "held" {
		var err error
		if file, err = p.at(target); err != nil {
			return err
		}
		if c, ok := file.(io.Closer); ok {
			defer c.Close()
		}
	}
	switch op {
	case "=":
		return p.write(file, data)
	case "?":
		data = strings.Trim(data, `"`)
		text, err := file.read()
		if err == nil && text != data {
			err = &wrongError{text, data}
		}
		return err
	case "~":
		var text string
		var err error
		ok := p.wait(func() bool {
			text, err = file.read()
			return err != nil || strings.Contains(" | "+text+" | ", " | "+data+" | ")
		})
		if err == nil && !ok {
			err = &wrongError{text, data}
		}
		return err
	}
	panic(l)
}

func (p *player) pid(name string) int {
	i, err := strconv.Atoi(strings.TrimPrefix(name, "p"))
	if err != nil {
		panic(name)
	}
	return p.pids[i-1]
}

func (p *player) write(file held, data string) error {
	switch {
	case strings.HasPrefix(data, `"`):
		s, err := strconv.Unquote(data)
		if err != nil {
			panic(data)
		}
		data = s
	case len(data) == 2 && data[0] == 'p':
		data = strconv.Itoa(p.pid(data))
	}
	return file.write(data)
}

func (p *player) at(target string) (held, error) {
	i := strings.LastIndexByte(target, '/')
	if i < 0 {
		return p.open("", target)
	}
	return p.open(target[:i], target[i+1:])
}

// fakeBench is the fake's hierarchy of the case's controller.
type fakeBench struct {
	*Fake
	base string
}

func (b fakeBench) path(p string) string { return strings.TrimSuffix(b.base+"/"+p, "/") }

func (b fakeBench) mkdir(path string) error { return b.Mkdir(b.path(path)) }
func (b fakeBench) rmdir(path string) error { return b.Rmdir(b.path(path)) }
func (b fakeBench) alive(pid int) bool      { return b.Alive(pid) }

func (b fakeBench) start(path string, bytes uint64, file bool) (int, error) {
	pid, err := b.TryStart(b.path(path))
	if err == nil && bytes > 0 {
		u := Usage{Anon: bytes}
		if file {
			u = Usage{File: bytes}
		}
		was := b.Memory(b.path(path))
		b.SetMemory(b.path(path), Usage{Anon: u.Anon + was.Anon, File: u.File + was.File})
	}
	return pid, err
}

func (b fakeBench) open(path, file string) (held, error) {
	g, err := b.m.Open(b.path(path), file)
	return fakeHeld{g}, err
}

type fakeHeld struct {
	f interface {
		Text() (string, error)
		Write(string) (int, error)
	}
}

func (h fakeHeld) read() (string, error) {
	text, err := h.f.Text()
	return oneLine(text), err
}

func (h fakeHeld) write(data string) error {
	_, err := h.f.Write(data)
	return err
}

func oneLine(text string) string {
	return strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", " | ")
}

// at once is for a fake, where everything has happened.
func atOnce(ok func() bool) bool { return ok() }

func (c conformance) fake(t *testing.T, kernel Release, disk string) fakeBench {
	layout, without := V2, []string(nil)
	if c.version == 1 {
		layout = V1
		// One hierarchy, as in the kernel's case.
		for _, name := range []string{"cpu", "cpuacct", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc", "devices", "freezer"} {
			if name != c.ctl {
				without = append(without, map[string]string{"io": "blkio"}[name], name)
			}
		}
	}
	f := NewOn(t, layout, Machine{
		Kernel: kernel, CPUs: 2, Disks: []string{disk}, Without: without, NoUnified: c.version == 1,
	})
	require.NoError(t, f.Mkdir("base"))
	if c.version == 1 && c.ctl == "cpuset" {
		require.NoError(t, f.Write("base", "cpuset.cpus", "0-1"))
		require.NoError(t, f.Write("base", "cpuset.mems", "0"))
	}
	if c.version == 2 && c.ctl != "" {
		require.NoError(t, f.Write("", "cgroup.subtree_control", "+"+c.ctl))
		require.NoError(t, f.Write("base", "cgroup.subtree_control", "+"+c.ctl))
	}
	return fakeBench{f, "base"}
}

// TestConformance plays every script on the fake, as each kernel of the matrix.
func TestConformance(t *testing.T) {
	for _, name := range []string{"5.10", "6.1", "6.12", "6.18"} {
		kernel := release(name)
		t.Run(name, func(t *testing.T) {
			for _, c := range table {
				t.Run(c.title(), func(t *testing.T) {
					if c.ctl == "misc" && kernel.Major == 5 {
						return // Linux 5.13
					}
					b := c.fake(t, kernel, "8:0")
					require.NoError(t, b.mkdir("a"))
					if _, err := b.m.Read("base/a", c.needs); c.needs != "" && errors.Is(err, os.ErrNotExist) {
						return // this kernel has no such file
					}
					require.NoError(t, c.play(b, kernel, "8:0", atOnce))
				})
			}
		})
	}
}

func (c conformance) title() string {
	ctl := c.ctl
	if ctl == "" {
		ctl = "core"
	}
	return fmt.Sprintf("v%d/%s/%s", c.version, ctl, c.name)
}

// TestConformanceTable wants every case to have a name of its own and a script
// that can be read.
func TestConformanceTable(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range table {
		require.False(t, names[c.title()], "%s", c.title())
		names[c.title()] = true
		require.NotEmpty(t, strings.TrimSpace(c.script))
	}
}
