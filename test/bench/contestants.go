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
	add := func(name string, userns bool, build func() (program string, err error), command func(program string) *exec.Cmd) {
		if !o.wants(name) || ctx.Err() != nil {
			return
		}
		c := &contestant{name: name, userns: userns}
		program, err := build()
		if c.absent = err; err == nil {
			c.worker, c.absent = startWorker(command(program))
		}
		list = append(list, c)
	}
	group := func(s string) string { return p.name + "-" + s }

	floor := func(name, key string, userns bool, args ...string) {
		add(name, userns, func() (string, error) { return p.gcc("floor/floor.c") }, func(program string) *exec.Cmd {
			return p.program(program, append([]string{"--serve", "--name", group(key)}, args...)...)
		})
	}
	floor(rowFloorBare, "bare", true)
	floor(rowFloor, "floor", true, "--same")
	floor(rowFloorAll, "all", false, "--same", "--all")

	self := func() (string, error) { return p.self, nil }
	slow := []string{"-ldflags", "-X main.initMillis=30"}
	embed := func(name, key string, userns bool, build func() (string, error), args ...string) {
		add(name, userns, build, func(program string) *exec.Cmd {
			return p.program(program, append([]string{
				"worker", "embedder", "-name", group(key), "-state", filepath.Join(p.state, key),
			}, args...)...)
		})
	}
	embed(rowCaisson, "own", true, self)
	embed(rowCaissonAll, "every", false, self, "-all")
	embed(rowCaissonHeap, "heap", true, self, "-heap", fmt.Sprint(heap))
	embed(rowCaissonInit, "init", true, func() (string, error) { return p.goBuild("slow", ".", false, slow...) })

	places := func(key string) []string {
		return []string{"-root", filepath.Join(p.state, key), "-bundle", bundles[key][0], "-user-bundle", bundles[key][1]}
	}
	libcontainer := func(name, key string, userns bool, build func() (string, error), args ...string) {
		add(name, userns, build, func(program string) *exec.Cmd {
			return p.program(program, append(places(key), args...)...)
		})
	}
	plain := func() (string, error) { return p.goBuild("libcontainer", "./libcontainer", true) }
	libcontainer(rowLibcontainer, "libc", true, plain)
	libcontainer(rowLibcHeap, "libch", true, plain, "-heap", fmt.Sprint(heap))
	libcontainer(rowLibcInit, "libci", false, func() (string, error) {
		return p.goBuild("libcontainer-slow", "./libcontainer", true, slow...)
	})

	runtime := func(name, key string, build func() (string, error), args ...string) {
		add(name, true, build, func(program string) *exec.Cmd {
			cmd := p.worker("command", append(append(args, places(key)...), program)...)
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
			return cmd
		})
	}
	runtime(rowCrun, "crun", func() (string, error) { return installed("crun") }, p.coverUnified()...)
	runtime(rowRuncDebian, "runc", func() (string, error) { return installed("runc") })
	runtime(rowRunc, "runc152", func() (string, error) { return p.goBuild("runc", "github.com/opencontainers/runc", true) })
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
