// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// qemu is the emulator of one architecture's machines.
type qemu struct {
	command []string // the program and its first arguments
	accel   string
}

// Before 8.1, qemu translates code without the lock that a write to the code's
// page takes. Where one processor translates while another patches, which is
// what Linux does at each turn of a static key, the old code can stay: the
// breakpoint that guards a patch, for ever. The processors that come by then
// hang, and 6.1 and 6.12 do so within a minute of freezing in a loop. One
// thread for all processors cannot race; it is the slower way.
const (
	manyThreads = "tcg,thread=multi"
	oneThread   = "tcg,thread=single"
)

// slow are features of amd64 that cost an emulator much, and that no test is about.
// With fast strings, kernels clear and copy memory by single bytes; what keeps a
// kernel out of users' memory, and a fifth level of page tables, cost something at
// each access or each change of tables. Without them, the tests of internal/launch took
// 15 to 27% less of the host's processors on Linux 6.1.
const slow = ",erms=off,fsrm=off,fsrs=off,fsrc=off,fzrm=off,smap=off,smep=off,umip=off,pku=off,la57=off"

// processor is the kind that a machine has.
func processor(accel, arch string) string {
	switch {
	case arch == "arm64":
		return "max,pauth-impdef=on"
	case accel == manyThreads:
		return "max" + slow // an old qemu, which has but one thread, knows some of these by no name
	}
	return "max"
}

func qemuProgram(arch string) string {
	if arch == "arm64" {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

// findQemu takes this machine's qemu if it is new enough, and Debian's
// otherwise.
func findQemu(ctx context.Context, cache, arch string) (*qemu, error) {
	program := qemuProgram(arch)
	out, missing := command(ctx, "", nil, program, "--version")
	if missing == nil && canPatch(string(out)) {
		return &qemu{[]string{program}, manyThreads}, nil
	}
	fetched, err := fetchQemu(ctx, cache, program)
	switch {
	case err == nil:
		return &qemu{fetched, manyThreads}, nil
	case missing == nil && ctx.Err() == nil:
		fmt.Fprintf(os.Stderr, "this machine's old qemu has to do, on one thread: %v\n", err)
		return &qemu{[]string{program}, oneThread}, nil
	}
	return nil, errors.Join(missing, err)
}

// canPatch reports whether the qemu that names its version so is 8.1 or newer.
func canPatch(version string) bool {
	var major, minor int
	_, err := fmt.Sscanf(version, "QEMU emulator version %d.%d", &major, &minor)
	return err == nil && (major > 8 || major == 8 && minor >= 1)
}

// fetchQemu returns how to run Debian's qemu out of the cache, with the loader
// and libraries of its own suite.
func fetchQemu(ctx context.Context, cache, program string) ([]string, error) {
	root, err := fetch(ctx, cache, packages{
		"qemu-", []string{"trixie"}, runtime.GOARCH, func(ctx context.Context, a apt) error {
			return withDependencies(ctx, a, "qemu-system-x86", "qemu-system-arm")
		},
	})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(root, "usr/bin", program)
	loader, err := interpreter(path)
	if err != nil {
		return nil, err
	}
	// Links like /lib64 are not in the packages.
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib*", filepath.Base(loader)))
	if err != nil || len(loaders) == 0 {
		return nil, fmt.Errorf("%s has no %s", root, loader)
	}
	libs, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
	if err != nil {
		return nil, err
	}
	return []string{
		loaders[0], "--library-path", strings.Join(libs, ":"), path,
		"-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios"),
	}, nil
}

// interpreter names the dynamic loader that a program asks for.
func interpreter(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	section := f.Section(".interp")
	if section == nil {
		return "", fmt.Errorf("%s has no .interp section", path)
	}
	name, err := section.Data()
	return strings.TrimRight(string(name), "\x00"), err
}

// run returns the command for a machine.
func (q *qemu) run(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, q.command[0], append(q.command[1:len(q.command):len(q.command)], args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}
