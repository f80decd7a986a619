// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// OCI is a container of runc or crun.
type OCI struct {
	PID     int
	runtime string
	dir     string
}

// ociID is what the runtimes call the container.
const ociID = "box"

// StartOCI starts a container that sleeps, in the given group as the runtime
// spec's cgroupsPath has it; dir is an empty directory for it.
func StartOCI(runtime, dir, group string) (*OCI, error) {
	c := &OCI{runtime: runtime, dir: dir}
	if err := errors.Join(Rootfs(filepath.Join(dir, "rootfs")), c.configure(group)); err != nil {
		return nil, err
	}
	args := c.Command("run", "--detach", "--bundle", dir, "--pid-file", filepath.Join(dir, "pid"), ociID)
	if _, err := Run(args[0], args[1:]...); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err == nil {
		c.PID, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// configure writes the bundle's configuration: the runtime's own example,
// changed where it must be.
func (c *OCI) configure(group string) error {
	spec := exec.Command(c.runtime, "spec")
	spec.Dir = c.dir
	if err := spec.Run(); err != nil {
		return err
	}
	file := filepath.Join(c.dir, "config.json")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var config struct {
		Process map[string]any `json:"process"`
		Linux   map[string]any `json:"linux"`
	}
	var all map[string]any
	if err := errors.Join(json.Unmarshal(b, &config), json.Unmarshal(b, &all)); err != nil {
		return err
	}
	config.Process["terminal"], config.Process["args"] = false, []string{"/bin/sleep", "1000"}
	delete(config.Process, "rlimits") // raising them needs CAP_SYS_RESOURCE
	config.Linux["cgroupsPath"] = group
	all["process"], all["linux"] = config.Process, config.Linux
	if b, err = json.Marshal(all); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// Command is a command line of the runtime.
func (c *OCI) Command(args ...string) []string {
	return append(append(RuntimeCommand(c.runtime), "--root", filepath.Join(c.dir, "state")), args...)
}

// RuntimeCommand is how a runtime is called here. crun refuses to work where the
// unified tree of a hybrid machine has controllers, so that is hidden from it.
func RuntimeCommand(runtime string) []string {
	const unified = "/sys/fs/cgroup/unified"
	b, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
	if runtime != "crun" || err != nil || len(b) < 2 {
		return []string{runtime}
	}
	return []string{"unshare", "--mount", "/bin/sh", "-c", `mount -t tmpfs tmpfs "$0" && exec "$@"`, unified, runtime}
}

// UpdateCommand is [OCI.Command] for an update with these flags.
func (c *OCI) UpdateCommand(flags ...string) []string {
	return c.Command(append(append([]string{"update"}, flags...), ociID)...)
}

// Close ends the container.
func (c *OCI) Close() error {
	args := c.Command("delete", "--force", ociID)
	_, err := Run(args[0], args[1:]...)
	return err
}
