// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

// Command libcontainer is the contestant that has libcontainer in its process.
// It needs cgo, for the constructor that enters the namespaces.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caisson-run/caisson/test/bench/overlay"
	_ "github.com/opencontainers/cgroups/devices"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// initMillis is set by the linker in one build, to show what package
// initialisers of an embedder cost.
var initMillis = "0"

// What stands for the embedder's other packages is initialised before
// libcontainer's part takes over in init.
var _ = func() bool {
	ms, _ := strconv.Atoi(initMillis)
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); time.Now().Before(end); {
		continue
	}
	return true
}()

func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	root := flag.String("root", "", "state directory")
	heap := flag.Int("heap", 0, "resident heap in MiB")
	bundle := flag.String("bundle", "", "bundle without a user namespace")
	userBundle := flag.String("user-bundle", "", "bundle with one")
	lower := flag.String("lower", "", "layer of an overlay to mount at the bundle's rootfs")
	further := flag.Bool("exec", false, "a cycle is one process in a container that runs")
	flag.Parse()
	if *lower != "" {
		if err := overlay.Private(); err != nil {
			return err
		}
	}
	if *further {
		return execs(*root, *userBundle, *lower)
	}
	ballast := make([]byte, max(1, *heap<<20))
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	in := bufio.NewScanner(os.Stdin)
	for n := 1; in.Scan(); n++ {
		dir := *bundle
		if in.Text() == "1" {
			dir = *userBundle
		}
		spec, err := read(dir)
		if err != nil {
			return err
		}
		begin := time.Now()
		if *lower != "" {
			err = overlay.Mount(*lower, dir)
		}
		var times [5]time.Duration
		if err == nil {
			times, err = cycle(*root, "bench"+strconv.Itoa(n), spec)
		}
		if *lower != "" {
			err = errors.Join(err, overlay.Unmount(dir))
			times[0] = time.Since(begin)
		}
		if err != nil {
			fmt.Printf("error: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		fmt.Println(times[0].Nanoseconds(), times[1].Nanoseconds(), times[2].Nanoseconds(),
			times[3].Nanoseconds(), times[4].Nanoseconds())
	}
	ballast[0]++
	return in.Err()
}

func read(bundle string) (*specs.Spec, error) {
	text, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	return &spec, json.Unmarshal(text, &spec)
}

// cycle makes, runs and removes one container.
func cycle(root, id string, spec *specs.Spec) (times [5]time.Duration, err error) {
	t0 := time.Now()
	container, err := create(root, id, spec)
	if err != nil {
		return times, err
	}
	t1 := time.Now()
	p := process(spec, true)
	if err := container.Run(p); err != nil {
		_ = container.Destroy() // what there may be; the error above tells more
		return times, err
	}
	t2 := time.Now()
	_, err = p.Wait()
	t3 := time.Now()
	if derr := container.Destroy(); err == nil {
		err = derr
	}
	t4 := time.Now()
	return [5]time.Duration{t4.Sub(t0), t1.Sub(t0), t2.Sub(t1), t3.Sub(t2), t4.Sub(t3)}, err
}

func create(root, id string, spec *specs.Spec) (*libcontainer.Container, error) {
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: id, Spec: spec, NoNewKeyring: spec.Linux.Seccomp == nil,
	})
	if err != nil {
		return nil, err
	}
	return libcontainer.Create(root, id, config)
}

func process(spec *specs.Spec, first bool) *libcontainer.Process {
	return &libcontainer.Process{
		Args: spec.Process.Args, Env: spec.Process.Env, Cwd: spec.Process.Cwd, Init: first,
		NoNewPrivileges: &spec.Process.NoNewPrivileges, Stdout: os.Stderr, Stderr: os.Stderr,
		Capabilities: &configs.Capabilities{
			Bounding: spec.Process.Capabilities.Bounding, Effective: spec.Process.Capabilities.Effective,
			Permitted: spec.Process.Capabilities.Permitted,
		},
	}
}

// execs makes a container in which each cycle runs another process.
func execs(root, bundle, lower string) (err error) {
	spec, err := read(bundle)
	if err != nil {
		return err
	}
	if err := overlay.Mount(lower, bundle); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, overlay.Unmount(bundle)) }()
	container, err := create(root, "bench", spec)
	if err != nil {
		return err
	}
	first := process(spec, true)
	if err := container.Run(first); err != nil {
		return errors.Join(err, container.Destroy())
	}
	defer func() {
		err = errors.Join(err, container.Signal(unix.SIGKILL))
		_, _ = first.Wait() // it was killed
		err = errors.Join(err, container.Destroy())
	}()
	spec.Process.Args = []string{"/bin/true"}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		begin := time.Now()
		p := process(spec, false)
		err := container.Run(p)
		if err == nil {
			_, err = p.Wait()
		}
		if err != nil {
			fmt.Printf("error: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		fmt.Println(time.Since(begin).Nanoseconds())
	}
	return in.Err()
}
