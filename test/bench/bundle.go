// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/caisson-run/caisson/isolation"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// bundle makes the OCI bundle that stands for what Caisson is asked for, in two
// forms: without and with a user namespace. The peers need a root file system;
// theirs holds /bin/true and its libraries, and nothing is mounted but /proc and
// an empty /dev.
func (p *place) bundle(name string, userns bool) (string, error) {
	dir := filepath.Join(p.dir, "bundles", name)
	if userns {
		dir += "-user"
	}
	root := filepath.Join(p.dir, "rootfs")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(root, "proc"), 0o755),
		os.MkdirAll(filepath.Join(root, "dev"), 0o755), copyProgram(root, "/bin/true")); err != nil {
		return "", err
	}
	config, err := json.Marshal(p.runtimeSpec(name, root, userns))
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
}

func (p *place) runtimeSpec(name, root string, userns bool) *specs.Spec {
	caps := isolation.DefaultCapabilities()
	quota, period, memory, pids := int64(50000), uint64(100000), int64(256<<20), int64(64)
	s := &specs.Spec{
		Version:  "1.0.2",
		Root:     &specs.Root{Path: root},
		Hostname: "bench",
		Process: &specs.Process{
			Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "nodev", "noexec"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + p.name + "-" + name,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
			Resources: &specs.LinuxResources{
				CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period},
				Memory: &specs.LinuxMemory{Limit: &memory},
				Pids:   &specs.LinuxPids{Limit: &pids},
			},
		},
	}
	if userns {
		identity := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 65536}}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings, s.Linux.GIDMappings = identity, identity
	}
	return s
}

// copyProgram copies a program, its loader and its libraries to the same paths
// below root.
func copyProgram(root, path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	files := []string{path}
	if interp := f.Section(".interp"); interp != nil {
		name, err := interp.Data()
		if err != nil {
			return err
		}
		files = append(files, string(name[:len(name)-1]))
	}
	for _, lib := range libraries {
		found, err := library(lib)
		if err != nil {
			return err
		}
		files = append(files, found)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		to := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

func library(name string) (string, error) {
	for _, pattern := range []string{"/lib/*-linux-gnu/", "/usr/lib/*-linux-gnu/", "/lib64/", "/usr/lib64/", "/lib/", "/usr/lib/"} {
		if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("library %s: %w", name, os.ErrNotExist)
}

// wholeSpec is what a whole container of Caisson's defaults is, in the words of the
// runtime specification.
func (p *place) wholeSpec(name, root string) (*specs.Spec, error) {
	s := p.runtimeSpec(name, root, true)
	quiet := []string{"nosuid", "noexec", "nodev"}
	s.Mounts = []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: quiet},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"ro"}, quiet...)},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append([]string{"mode=1777", "size=64m"}, quiet...)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: quiet},
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = isolation.DefaultMasked(), isolation.DefaultGuarded()
	calls, err := allowedCalls()
	if err != nil {
		return nil, err
	}
	refused := uint(unix.EPERM)
	s.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &refused,
		Syscalls: []specs.LinuxSyscall{{Names: calls, Action: specs.ActAllow}},
	}
	return s, nil
}

// allowedCalls are the names of the system calls that Caisson's filter allows
// outright, from its source: other filters are made of names.
func allowedCalls() ([]string, error) {
	names := []string{"socket", "personality", "clone"} // ours look at arguments
	for _, file := range []string{"profile_linux.go", "profile_linux_" + runtime.GOARCH + ".go"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "internal", "seccomp", file))
		if err != nil {
			return nil, err
		}
		list, _, _ := strings.Cut(string(text), "var withCapability")
		list, _, _ = strings.Cut(list, "var rawIO")
		for _, m := range regexp.MustCompile(`unix\.SYS_([A-Z0-9_]+)`).FindAllStringSubmatch(list, -1) {
			names = append(names, strings.ToLower(m[1]))
		}
	}
	return names, nil
}
