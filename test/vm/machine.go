// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

//go:embed init.sh
var initScript []byte

// machine is what boots a kernel: everything but the cgroup mode.
type machine struct {
	kernel  kernel
	tests   []testBinary
	vmlinuz string
	base    []byte // the initramfs without the lists of what is offered
	accel   string
}

// prepare gets and builds all that the kernel's environments need.
func prepare(ctx context.Context, o options, k kernel) (*machine, error) {
	m := &machine{kernel: k}
	if _, err := exec.LookPath(m.qemu()); err != nil {
		return nil, fmt.Errorf("%w: install qemu-system-x86 and qemu-system-arm", err)
	}
	root, err := fetch(ctx, o.cache, k)
	if err != nil {
		return nil, err
	}
	images, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("%s/boot has %d kernels, not one", root, len(images))
	}
	m.vmlinuz = images[0]
	if m.tests, err = buildTests(ctx, o.work, k.arch, o.pkgs); err != nil {
		return nil, err
	}
	if err := m.fill(ctx, root); err != nil {
		return nil, err
	}
	m.accel = m.accelerator(ctx)
	return m, nil
}

// fill writes init, busybox, modules and tests into the ramdisk.
func (m *machine) fill(ctx context.Context, root string) error {
	// Since trixie, packages have everything below /usr.
	busybox, err := os.ReadFile(filepath.Join(root, "usr/bin/busybox"))
	if errors.Is(err, os.ErrNotExist) {
		busybox, err = os.ReadFile(filepath.Join(root, "bin/busybox"))
	}
	if err != nil {
		return err
	}
	order, err := loadOrder(ctx, root, modules)
	if err != nil {
		return err
	}
	r := &cpio{}
	for _, dir := range []string{"bin", "dev", "modules", "tests"} {
		r.dir(dir)
	}
	r.file("init", initScript)
	r.file("bin/busybox", busybox)
	var names, list strings.Builder
	for _, mod := range order {
		r.file("modules/"+mod.name+".ko", mod.image)
		fmt.Fprintln(&names, mod.name)
	}
	r.file("modules/order", []byte(names.String()))
	for _, t := range m.tests {
		binary, err := os.ReadFile(t.path)
		if err != nil {
			return err
		}
		r.file("tests/"+t.name()+".test", binary)
		fmt.Fprintln(&list, t.name())
	}
	r.file("tests/list", []byte(list.String()))
	m.base = r.bytes()
	return nil
}

func (m *machine) qemu() string {
	if m.kernel.arch == "arm64" {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

// accelerator is kvm where a machine with it starts, and emulation otherwise:
// /dev/kvm may be there and yet not work.
func (m *machine) accelerator(ctx context.Context) string {
	const emulation = "tcg,thread=multi"
	if m.kernel.arch != runtime.GOARCH {
		return emulation
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// Without a ramdisk the kernel panics soon, and panic=-1 with -no-reboot
	// makes of that an orderly end.
	cmd := exec.CommandContext(ctx, m.qemu(), m.args("kvm", "panic=-1")...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Kernel panic") {
		return emulation
	}
	return "kvm"
}

func (m *machine) args(accel, cmdline string, more ...string) []string {
	args := []string{
		"-accel", accel, "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "mon:stdio", "-kernel", m.vmlinuz,
	}
	console := "ttyS0"
	if m.kernel.arch == "arm64" {
		console = "ttyAMA0"
		args = append(args, "-M", "virt", "-cpu", "max,pauth-impdef=on")
	} else {
		args = append(args, "-cpu", "max")
	}
	return append(append(args, more...), "-append", "console="+console+" psi=1 swapaccount=1 "+cmdline)
}

// boot runs the environment until it powers off. Its console is stdout and,
// for a shell, also standard input.
func (m *machine) boot(ctx context.Context, o options, e environment, stdout io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.work, "boot-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	lists := &cpio{}
	for user := range asUser {
		lists.file("tests/has."+user, []byte(strings.Join(e.offers(user), ",")))
	}
	ramdisk := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(ramdisk, slices.Concat(m.base, lists.bytes()), 0o644); err != nil {
		return err
	}
	args := []string{"-initrd", ramdisk}
	for _, name := range []string{"scratch", "swap"} { // /dev/vda, /dev/vdb
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
		if err := os.Truncate(path, 128<<20); err != nil {
			return err
		}
		args = append(args, "-drive", "if=virtio,format=raw,file="+path)
	}

	cmdline := "quiet loglevel=1 panic=-1 caisson.mode=" + e.mode
	if o.shell {
		cmdline += " caisson.shell=1"
	}
	cmd := exec.CommandContext(ctx, m.qemu(), m.args(m.accel, cmdline, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stdout, time.Second
	if o.shell {
		cmd.Stdin = os.Stdin
	}
	return cmd.Run()
}

// test runs the environment's tests and reads their results off its console.
func (m *machine) test(ctx context.Context, o options, e environment) *report {
	r := newReport(e, m.tests, filepath.Join(o.cache, "logs", strings.ReplaceAll(e.name(), "/", "-")+".log"))
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	console, w := io.Pipe()
	go func() {
		err := m.boot(ctx, o, e, w)
		if ctx.Err() != nil {
			err = fmt.Errorf("stopped after %v: %w", o.timeout, ctx.Err())
		}
		_ = w.CloseWithError(err) // nil ends the stream
	}()
	r.read(ctx, console, o.verbose)
	return r
}
