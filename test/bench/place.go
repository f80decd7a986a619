// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// place is where a run keeps what it makes, and how it names its groups.
type place struct {
	name  string // of groups and sandboxes, unique to the run
	dir   string // programs and the root file system of the peers
	state string // on tmpfs, for the state of every contestant
	self  string // this program
}

func newPlace() (*place, error) {
	p := &place{name: "caisson-bench-" + strconv.Itoa(os.Getpid())}
	var err error
	if p.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", p.name+"-"); err != nil {
		return nil, err
	}
	for _, dir := range []string{"/run", "/dev/shm", os.TempDir()} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && (fs.Type == unix.TMPFS_MAGIC || dir == os.TempDir()) {
			p.state, err = os.MkdirTemp(dir, p.name+"-")
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, os.Chmod(p.dir, 0o755)
}

func (p *place) remove() error {
	var errs []error
	for _, dir := range []string{p.dir, p.state} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// worker is the command that starts this program as a contestant.
func (p *place) worker(kind string, args ...string) *exec.Cmd {
	return p.program(p.self, append([]string{"worker", kind}, args...)...)
}

// program is a command that an interrupt of this program does not reach, so
// that it can clean up when its input ends.
func (p *place) program(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// errNotInstalled is why a contestant does not take part.
var errNotInstalled = errors.New("not installed")

// gcc builds a C program of this folder.
func (p *place) gcc(source string, flags ...string) (string, error) {
	if _, err := exec.LookPath("gcc"); err != nil {
		return "", fmt.Errorf("%w: gcc", errNotInstalled)
	}
	out := filepath.Join(p.dir, strings.TrimSuffix(filepath.Base(source), ".c"))
	return out, build("gcc", append(flags, "-O2", "-static", "-o", out, source)...)
}

// goBuild builds a Go package; with cgo it needs gcc.
func (p *place) goBuild(name, pkg string, cgo bool, flags ...string) (string, error) {
	if _, err := exec.LookPath("gcc"); err != nil && cgo {
		return "", fmt.Errorf("%w: gcc", errNotInstalled)
	}
	out := filepath.Join(p.dir, name)
	enabled := "CGO_ENABLED=0"
	if cgo {
		enabled = "CGO_ENABLED=1"
	}
	args := append([]string{enabled, "go", "build", "-o", out}, flags...)
	return out, build("env", append(args, pkg)...)
}

func build(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// version is what a program says of itself, in its first line.
func version(path string) string {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
