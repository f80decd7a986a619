// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
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
	base    []byte            // the initramfs without the lists of what is offered and to do
	foreign map[string][]byte // and other people's runtimes, by cgroup mode
	qemu    *qemu
}

// prepare gets all that the kernel's environments need.
func prepare(ctx context.Context, o options, k kernel, tests []testBinary) (*machine, error) {
	m := &machine{kernel: k, tests: tests, foreign: make(map[string][]byte)}
	root, err := fetch(ctx, o.cache, kernelPackages(k))
	if err != nil {
		return nil, err
	}
	images, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("%s/boot has %d kernels, not one", root, len(images))
	}
	m.vmlinuz = images[0]
	if err := m.fill(ctx, o.cache, root); err != nil {
		return nil, err
	}
	if m.qemu, err = findQemu(ctx, o.cache, k.arch); err != nil {
		return nil, err
	}
	if m.kvm(ctx) {
		m.qemu.accel = "kvm"
	}
	return m, nil
}

// fill writes init, busybox, modules and tests into the ramdisk.
func (m *machine) fill(ctx context.Context, cache, root string) error {
	// Since trixie, packages have everything below /usr.
	busybox, err := os.ReadFile(filepath.Join(root, "usr/bin/busybox"))
	if errors.Is(err, os.ErrNotExist) {
		busybox, err = os.ReadFile(filepath.Join(root, "bin/busybox"))
	}
	if err != nil {
		return err
	}
	order, err := loadOrder(ctx, root, slices.Concat(modules, m.kernel.modules))
	if err != nil {
		return err
	}
	r := &cpio{}
	for _, dir := range []string{"dev", "modules", "tests"} {
		r.dir(dir)
	}
	if m.kernel.systemd {
		if err := m.fillSystemd(ctx, cache, r); err != nil {
			return err
		}
	} else {
		r.dir("bin")
	}
	r.file("init", initScript)
	r.file("bin/busybox", busybox)
	var names strings.Builder
	for _, mod := range order {
		r.file("modules/"+mod.name+".ko", mod.image)
		fmt.Fprintln(&names, mod.name)
	}
	r.file("modules/order", []byte(names.String()))
	for _, t := range m.kernel.tests(m.tests) {
		binary, err := os.ReadFile(t.path)
		if err != nil {
			return err
		}
		r.file("tests/"+t.name()+".test", binary)
	}
	m.base = r.bytes()
	return nil
}

// kvm reports whether a machine with it starts: /dev/kvm may be there and yet
// not work.
func (m *machine) kvm(ctx context.Context) bool {
	if m.kernel.arch != runtime.GOARCH {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// Without a ramdisk the kernel panics soon, and panic=-1 with -no-reboot
	// makes of that an orderly end.
	out, err := m.qemu.run(ctx, m.args("kvm", "panic=-1")...).CombinedOutput()
	return err == nil && strings.Contains(string(out), "Kernel panic")
}

func (m *machine) args(accel, cmdline string, more ...string) []string {
	args := []string{
		"-accel", accel, "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "mon:stdio", "-kernel", m.vmlinuz,
	}
	console := "ttyS0"
	if m.kernel.arch == "arm64" {
		console = "ttyAMA0"
		args = append(args, "-M", "virt")
	}
	args = append(args, "-cpu", processor(accel, m.kernel.arch))
	return append(append(args, more...), "-append", "console="+console+" psi=1 swapaccount=1 "+cmdline)
}

// boot runs the environment until it powers off. Its console is stdout and,
// for a shell, also standard input. The lists say which tests to run, by user.
func (m *machine) boot(ctx context.Context, o options, e environment, todo map[string]string, stdout io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.work, "boot-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	lists := &cpio{}
	for _, user := range users {
		lists.file("tests/has."+user, []byte(strings.Join(e.offers(user), ",")))
		lists.file("tests/list."+user, []byte(todo[user]))
	}
	ramdisk := filepath.Join(dir, "initramfs")
	image := slices.Concat(m.base, lists.bytes(), m.foreign[e.mode])
	if err := os.WriteFile(ramdisk, image, 0o644); err != nil {
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
		args = append(args, "-drive", "if=virtio,format=raw,cache=unsafe,file="+path)
	}

	cmdline := "quiet loglevel=1 panic=-1 caisson.mode=" + e.mode + " " + o.env // what the kernel does not know is init's environment
	if m.kernel.systemd {
		cmdline += systemdOptions(e.mode, o.env)
	}
	if o.shell {
		cmdline += " caisson.shell=1"
	}
	accel := m.qemu.accel
	if o.icount {
		// The last -smp counts. Four nanoseconds an instruction are about what
		// emulation takes.
		accel, args = oneThread, append(args, "-smp", "1", "-icount", "shift=2")
	}
	cmd := m.qemu.run(ctx, m.args(accel, cmdline, args...)...)
	cmd.Stdout, cmd.Stderr = stdout, stdout
	if o.shell {
		cmd.Stdin = os.Stdin
	}
	return cmd.Run()
}

// test runs the environment's tests and reads their results off its console.
func (m *machine) test(ctx context.Context, o options, e environment) *report {
	r := newReport(e, e.tests(m.tests, o.pkgs != ""), filepath.Join(o.cache, "logs", strings.ReplaceAll(e.name(), "/", "-")+".log"))
	r.silence, r.narrowed = silenceOf(o.env), strings.Contains(o.env, "TEST_RUN=")
	m.run(ctx, o, r)
	return r
}

// run boots the machine for what the report has yet to run.
func (m *machine) run(ctx context.Context, o options, r *report) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("stopped after %v", o.timeout))
	defer cancel()
	r.run(ctx, o.verbose, func(ctx context.Context, todo map[string]string, console io.Writer) error {
		return m.boot(ctx, o, r.env, todo, console)
	})
}
