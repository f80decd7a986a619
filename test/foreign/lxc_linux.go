// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// LXC is a container of LXC.
type LXC struct {
	PID    int
	Cgroup string
	dir    string
}

// StartLXC starts a container that sleeps, in a group below parent; dir is an
// empty directory for it.
func StartLXC(dir, parent string) (*LXC, error) {
	c := &LXC{dir: dir, Cgroup: parent + "/lxc.payload.box"}
	config, root := filepath.Join(dir, "config"), filepath.Join(dir, "rootfs")
	err := errors.Join(Rootfs(root), os.WriteFile(config, fmt.Appendf(nil, `lxc.uts.name = box
lxc.rootfs.path = dir:%s
lxc.net.0.type = none
lxc.apparmor.profile = unconfined
lxc.autodev = 0
lxc.init.cmd = /bin/sleep 1000
lxc.cgroup.dir = %s
`, root, parent), 0o600))
	if err != nil {
		return nil, err
	}
	if _, err := c.command("lxc-start", "-d", "-f", config, "-o", filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	text, err := c.command("lxc-info", "-p", "-H")
	if err == nil {
		c.PID, err = strconv.Atoi(text)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *LXC) command(name string, args ...string) (string, error) {
	return Run(name, append([]string{"-P", c.dir, "-n", "box"}, args...)...)
}

// Close ends the container.
func (c *LXC) Close() error {
	_, err := c.command("lxc-stop", "-k")
	return err
}
