// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Docker is a Docker daemon of the caller's own.
type Docker struct {
	dir    string
	parent string
	daemon *exec.Cmd
	ended  chan error // has how the daemon ended
	etc    bool       // /etc/docker was there before
}

// StartDocker starts a daemon in the empty directory dir, whose path should be
// short: it holds a socket. Its containers are in groups below parent. It has one image, "box", filled by
// [Rootfs] and then by fill.
func StartDocker(dir, parent string, fill func(image string) error) (_ *Docker, err error) {
	d := &Docker{dir: dir, parent: parent}
	if _, err := os.Stat("/etc/docker"); err == nil {
		d.etc = true
	}
	if err := d.Start(); err != nil {
		return nil, errors.Join(err, d.unmount())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	image, tar := filepath.Join(dir, "image"), filepath.Join(dir, "image.tar")
	if err := Rootfs(image); err != nil {
		return nil, err
	}
	if err := fill(image); err != nil {
		return nil, err
	}
	if _, err := Run("tar", "-C", image, "-cf", tar, "."); err != nil {
		return nil, err
	}
	_, err = d.CLI("import", tar, "box")
	return d, err
}

// Start starts the daemon, also again after a [Docker.Kill], and returns when it
// answers.
func (d *Docker) Start() error {
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	daemon := exec.Command("dockerd", "--iptables=false", "--bridge=none", "--live-restore",
		"--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"),
		"--pidfile", filepath.Join(d.dir, "pid"), "--host", d.socket(),
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/"+d.parent, "--storage-driver", "vfs", "--log-level", "warn")
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is ours
	if err := daemon.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	d.daemon, d.ended = daemon, ended
	err = await("answer of dockerd", func() bool {
		if len(ended) > 0 {
			return true
		}
		_, err := d.CLI("version")
		return err == nil
	})
	if len(ended) > 0 {
		text, _ := os.ReadFile(log.Name())
		err := <-ended
		ended <- err
		return fmt.Errorf("dockerd: %w\n%s", err, text[max(0, len(text)-1000):])
	}
	return err
}

// Kill kills the daemon and its containerd; the containers live on.
func (d *Docker) Kill() error {
	err := d.daemon.Process.Kill()
	return errors.Join(err, await("end of dockerd", func() bool { return len(d.ended) > 0 }), d.endContainerd(syscall.SIGKILL))
}

// endContainerd ends the containerd that the daemon has started, which may
// outlive it, and whose file makes the next daemon believe in it.
func (d *Docker) endContainerd(sig syscall.Signal) error {
	file := filepath.Join(d.dir, "exec/containerd/containerd.pid")
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	ours := func() bool {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		return err == nil && strings.Contains(string(b), d.dir)
	}
	if ours() {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	return errors.Join(await("end of containerd", func() bool { return !ours() }), os.Remove(file))
}

func (d *Docker) socket() string { return "unix://" + filepath.Join(d.dir, "sock") }

// Command is a docker command line.
func (d *Docker) Command(args ...string) []string {
	return append([]string{"docker", "--host", d.socket()}, args...)
}

// CLI runs a docker command and returns what it prints.
func (d *Docker) CLI(args ...string) (string, error) {
	cmd := d.Command(args...)
	return Run(cmd[0], cmd[1:]...)
}

// Run starts a container that sleeps, and returns its process.
func (d *Docker) Run(name string, args ...string) (pid int, err error) {
	if _, err := d.CLI(slices.Concat([]string{"run", "--detach", "--network=none", "--name", name}, args, []string{"box", "/bin/sleep", "1000"})...); err != nil {
		return 0, err
	}
	return d.PID(name)
}

// Inspect is what docker believes of a container; what is a path of its Go
// template.
func (d *Docker) Inspect(name, what string) (string, error) {
	return d.CLI("inspect", "--format", "{{"+what+"}}", name)
}

// PID is the container's first process.
func (d *Docker) PID(name string) (int, error) {
	text, err := d.Inspect(name, ".State.Pid")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// Close ends the containers, the daemon and the containerd that it has started,
// and takes away what they leave.
func (d *Docker) Close() error {
	var errs []error
	if len(d.ended) > 0 {
		errs = append(errs, d.Start()) // only a daemon ends the containers
	}
	list, err := d.CLI("ps", "--all", "--quiet")
	if err != nil {
		errs, list = append(errs, err), ""
	}
	for id := range strings.FieldsSeq(list) {
		_, err := d.CLI("rm", "--force", id)
		errs = append(errs, err)
	}
	errs = append(errs, d.daemon.Process.Signal(syscall.SIGTERM))
	errs = append(errs, await("end of dockerd", func() bool { return len(d.ended) > 0 }), d.endContainerd(syscall.SIGTERM))
	errs = append(errs, d.unmount(), os.RemoveAll(d.dir))
	if !d.etc {
		_ = os.Remove("/etc/docker/key.json")
		_ = os.Remove("/etc/docker") // unless somebody else has put something there
	}
	return errors.Join(errs...)
}

// unmount takes away the mounts that a killed daemon leaves.
func (d *Docker) unmount() error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], d.dir+"/") {
			if err := syscall.Unmount(f[4], syscall.MNT_DETACH); err != nil && err != syscall.EINVAL {
				errs = append(errs, &os.PathError{Op: "unmount", Path: f[4], Err: err})
			}
		}
	}
	return errors.Join(errs...)
}
