// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// contestants builds and starts everyone who is for the first table. heap is
// how large, in MiB, the large ones are.
func (p *place) contestants(ctx context.Context, o options) (list []*contestant, heap int, err error) {
	heap = min(o.heap, availableMiB()/4)
	bundles, err := p.bundles("crun", "runc", "runc152", "libc", "libch", "libci")
	if err != nil {
		return nil, 0, err
	}
	add := func(name string, userns bool, cmd *exec.Cmd, err error) {
		c := &contestant{name: name, userns: userns, absent: err}
		if err == nil && ctx.Err() == nil {
			c.worker, c.absent = startWorker(cmd)
		}
		list = append(list, c)
	}

	floor, err := p.gcc("floor/floor.c")
	group := func(s string) string { return p.name + "-" + s }
	add(rowFloorBare, true, p.program(floor, "--serve", "--name", group("bare")), err)
	add(rowFloor, true, p.program(floor, "--serve", "--same", "--name", group("floor")), err)
	add(rowFloorAll, false, p.program(floor, "--serve", "--same", "--all", "--name", group("all")), err)

	embed := func(name, program, key string, userns bool, args ...string) {
		args = append([]string{"worker", "embedder", "-name", group(key), "-state", filepath.Join(p.state, key)}, args...)
		add(name, userns, p.program(program, args...), nil)
	}
	embed(rowCaisson, p.self, "own", true)
	embed(rowCaissonAll, p.self, "every", false, "-all")
	embed(rowCaissonHeap, p.self, "heap", true, "-heap", fmt.Sprint(heap))
	slow := []string{"-ldflags", "-X main.initMillis=30"}
	if program, err := p.goBuild("slow", ".", false, slow...); err != nil {
		add(rowCaissonInit, true, nil, err)
	} else {
		embed(rowCaissonInit, program, "init", true)
	}

	libcontainer := func(name, key string, userns bool, program string, err error, args ...string) {
		add(name, userns, p.program(program, append([]string{
			"-root", filepath.Join(p.state, key), "-bundle", bundles[key][0], "-user-bundle", bundles[key][1],
		}, args...)...), err)
	}
	program, err := p.goBuild("libcontainer", "./libcontainer", true)
	libcontainer(rowLibcontainer, "libc", true, program, err)
	libcontainer(rowLibcHeap, "libch", true, program, err, "-heap", fmt.Sprint(heap))
	program, err = p.goBuild("libcontainer-slow", "./libcontainer", true, slow...)
	libcontainer(rowLibcInit, "libci", false, program, err)

	runtime := func(name, key, program string, err error, args ...string) {
		args = append(args, "-root", filepath.Join(p.state, key),
			"-bundle", bundles[key][0], "-user-bundle", bundles[key][1], program)
		cmd := p.worker("command", args...)
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
		add(name, true, cmd, err)
	}
	program, err = installed("crun")
	runtime(rowCrun, "crun", program, err, p.coverUnified()...)
	program, err = installed("runc")
	runtime(rowRuncDebian, "runc", program, err)
	program, err = p.goBuild("runc", "github.com/opencontainers/runc", true)
	runtime(rowRunc, "runc152", program, err)
	return list, heap, nil
}

func (p *place) bundles(names ...string) (map[string][2]string, error) {
	all := make(map[string][2]string)
	var errs []error
	for _, name := range names {
		plain, err1 := p.bundle(name, false)
		user, err2 := p.bundle(name, true)
		all[name] = [2]string{plain, user}
		errs = append(errs, err1, err2)
	}
	return all, errors.Join(errs...)
}

func installed(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %s", errNotInstalled, name)
	}
	return path, nil
}

// coverUnified hides the unified tree of a hybrid machine from crun, which
// refuses to work where that has controllers.
func (*place) coverUnified() []string {
	const unified = "/sys/fs/cgroup/unified"
	if text, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers")); err == nil && len(text) > 1 {
		return []string{"-cover", unified}
	}
	return nil
}

// availableMiB is MemAvailable of /proc/meminfo.
func availableMiB() int {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
