// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// runner runs plugins in the machine's network namespace. Each inherits the lock
// of its sandbox, so that whoever takes that next knows that none is left.
type runner struct {
	version.PluginDecoder
	machine *namespaces.Handle
	lock    *os.File
}

// patience is how long a plugin that was killed may keep others that it started.
const patience = 5 * time.Second

// ExecPlugin runs one plugin, as libcni asks for.
func (r *runner) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &out, &errOut
	cmd.ExtraFiles, cmd.WaitDelay = []*os.File{r.lock}, patience
	// The plugin is a copy of the thread that starts it.
	if err := namespaces.Do(cmd.Start, r.machine); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, explain(path, errors.Join(err, ctx.Err()), out.Bytes(), errOut.String())
	}
	return out.Bytes(), nil
}

// explain is what a plugin said of its failure.
func explain(path string, err error, out []byte, errOut string) error {
	said := &types.Error{}
	if json.Unmarshal(out, said) == nil && said.Msg != "" {
		return fmt.Errorf("%s: %w: %w", path, err, said)
	}
	text := strings.TrimSpace(errOut)
	const most = 500
	if len(text) > most {
		text = text[:most] + "..."
	}
	return fmt.Errorf("%s: %w: %q", path, err, text)
}

// FindInPath looks for a plugin in the directories.
func (*runner) FindInPath(plugin string, dirs []string) (string, error) {
	return invoke.FindInPath(plugin, dirs)
}

// locked waits for the plugins in dir that an earlier process has left, and calls f
// with a runner while no other process runs any.
func (i *Isolator) locked(ctx context.Context, dir string, f func(*runner) error) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	// The wait for a lock cannot be interrupted: it is left to end by itself.
	got := make(chan error, 1)
	go func() {
		for {
			if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
				got <- os.NewSyscallError("flock", err)
				return
			}
		}
	}()
	select {
	case err := <-got:
		defer lock.Close()
		if err != nil {
			return err
		}
	case <-ctx.Done():
		go func() { _, _ = <-got, lock.Close() }()
		return fmt.Errorf("waiting for the plugins of an earlier process: %w", context.Cause(ctx))
	}
	machine, err := i.machine()
	if err != nil {
		return err
	}
	defer machine.Close()
	return f(&runner{machine: machine, lock: lock})
}

// machine is the namespace that the plugins run in.
func (i *Isolator) machine() (*namespaces.Handle, error) {
	if i.cfg.NetworkNamespace == "" {
		return namespaces.Current(namespaces.Network)
	}
	return namespaces.OpenPath(i.cfg.NetworkNamespace)
}
