// SPDX-License-Identifier: Apache-2.0

package runtimespec_test

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/runtimespec"
)

// What a runtime is to be told, and what it cannot be told.
func ExampleToSpec() {
	spec, left, err := runtimespec.ToSpec(isolation.Spec{
		ID:        "web",
		Process:   isolation.Process{Args: []string{"/bin/server"}, Reaper: true},
		Resources: cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(100)}},
		Root:      isolation.Root{Path: "/srv/web"},
		Security:  isolation.Security{Seccomp: isolation.Off, Landlock: isolation.Off},
	}, runtimespec.Config{CgroupsPath: "/agent/web"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(spec.Hostname, spec.Root.Path, *spec.Linux.Resources.Pids.Limit, len(spec.Mounts), "mounts")
	fmt.Println("left:", left)
	// Output:
	// web /srv/web 100 6 mounts
	// left: [process.reaper true: a runtime has no first process of its own]
}

// A sandbox of somebody else's configuration.
func ExampleFromSpec() {
	spec, left, err := runtimespec.FromSpec("web", &specs.Spec{
		Version: "1.2.0",
		Process: &specs.Process{Args: []string{"server"}, Cwd: "/srv", NoNewPrivileges: true, ApparmorProfile: "docker-default"},
		Root:    &specs.Root{Path: "/srv/web", Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/sys", Type: "sysfs", Options: []string{"ro"}},
			{Destination: "/dev", Type: "tmpfs"},
			{Destination: "/dev/pts", Type: "devpts"},
			{Destination: "/dev/shm", Type: "tmpfs", Options: []string{"size=64m"}},
			{Destination: "/data", Type: "bind", Source: "/mnt/data", Options: []string{"rbind", "ro"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	data := spec.Root.Volumes[0]
	fmt.Println(spec.Root.Path, "with", data.Source, "at", data.Target, "read-only:", data.ReadOnly)
	fmt.Println("seccomp:", spec.Security.Seccomp)
	fmt.Println("left:", left)
	// Output:
	// /srv/web with /mnt/data at /data read-only: true
	// seccomp: off
	// left: [process.apparmorProfile docker-default: labels and profiles of a security module are not set]
}
