// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/launch"
	"github.com/caisson-run/caisson/namespaces"
)

// namespaceIsolator gives the sandbox namespaces of its own, at its start.
type namespaceIsolator struct{}

func (namespaceIsolator) Name() string                              { return "namespaces" }
func (namespaceIsolator) Prepare(context.Context, *Container) error { return nil }
func (namespaceIsolator) Cleanup(context.Context, *Container) error { return nil }

func (namespaceIsolator) Launch(c *Container, l *Launch) error {
	n := c.Spec.Namespaces
	l.New = n.Kinds()
	l.UIDMap, l.GIDMap, l.Monotonic, l.Boottime = n.UIDMap, n.GIDMap, n.Monotonic, n.Boottime
	if l.New.Has(namespaces.UTS) {
		l.Hostname = hostname(c.Spec)
	}
	l.Loopback = l.New.Has(namespaces.Network)
	if l.New.Has(namespaces.PID) && c.Spec.Root.IsZero() {
		// The caller's /proc would show the caller's processes.
		l.Mounts = append(l.Mounts, Mount{
			Source: "proc", Target: "/proc", Type: "proc",
			Flags: MountNoSUID | MountNoDev | MountNoExec,
		})
	}
	return nil
}

// hostname is the name of the machine inside.
func hostname(s Spec) string { return cmp.Or(s.Hostname, s.ID) }

// processIsolator says what runs and as whom.
type processIsolator struct{}

func (processIsolator) Name() string                              { return "process" }
func (processIsolator) Cleanup(context.Context, *Container) error { return nil }

// Prepare looks what the kernel lacks for the process's files.
func (processIsolator) Prepare(_ context.Context, c *Container) error {
	lacks, err := c.Spec.Security.filesLack(launch.Landlock())
	c.missing = append(c.missing, lacks...)
	return err
}

func (processIsolator) Launch(c *Container, l *Launch) error {
	p := c.Spec.Process
	path, err := lookPath(p, &c.Spec.Root)
	if err != nil {
		return err
	}
	caps, err := capabilitySet(p.Capabilities)
	if err != nil {
		return err
	}
	l.Path, l.Args, l.Env, l.Dir = path, p.Args, p.Env, cmp.Or(p.Dir, "/")
	l.User, l.Capabilities, l.NewPrivileges, l.Rlimits = p.User, caps, p.NewPrivileges, p.Rlimits
	l.Terminal = p.Terminal
	return nil
}

// DefaultPath is where a program without a slash is looked for where its environment
// has no PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds the program in the PATH that the process will have.
func lookPath(p Process, root *Root) (string, error) {
	name := p.Args[0]
	if strings.ContainsRune(name, '/') {
		if !filepath.IsAbs(name) {
			name = filepath.Join(cmp.Or(p.Dir, "/"), name)
		}
		if !root.IsZero() {
			return name, nil // its mounts are not there yet
		}
		return name, executable(name)
	}
	search := DefaultPath
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	for _, dir := range filepath.SplitList(search) {
		// A relative element would mean the caller's directory.
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		if root.IsZero() {
			if executable(path) == nil {
				return path, nil
			}
		} else if mode, ok := root.lookupFile(path); ok && mode.IsRegular() && mode&0o111 != 0 {
			return path, nil
		}
	}
	return "", &os.PathError{Op: "exec", Path: name, Err: fmt.Errorf("%w in %s", os.ErrNotExist, search)}
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return &os.PathError{Op: "exec", Path: path, Err: errors.Unwrap(err)}
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return &os.PathError{Op: "exec", Path: path, Err: syscall.EACCES}
	}
	return nil
}
