// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// An InternalProcessError says that a v2 controller cannot be enabled because a
// group above has processes of its own: v2 shares resources out only among
// groups, so the processes have to move to a child of that group first, for
// instance to GROUP/self.
type InternalProcessError struct {
	Path        string // the group that has processes
	Controllers Controllers
	Err         error
}

// Error says what to do.
func (e *InternalProcessError) Error() string {
	return fmt.Sprintf("enable %s below %s: processes are in it; move them to a child group first: %v", e.Controllers, e.Path, e.Err)
}

// Unwrap gives the kernel's answer.
func (e *InternalProcessError) Unwrap() error { return e.Err }

// A TreeLimitError says that a group above does not let another group be made.
type TreeLimitError struct {
	Path  string // the file with the limit; cgroup.max.depth or cgroup.max.descendants of a group above
	Limit string // what it holds
	Err   error
}

// Error names the limit.
func (e *TreeLimitError) Error() string {
	return fmt.Sprintf("%v: %s is %s", e.Err, e.Path, e.Limit)
}

// Unwrap gives the kernel's answer.
func (e *TreeLimitError) Unwrap() error { return e.Err }

const (
	fileControllers = "cgroup.controllers"
	fileSubtree     = "cgroup.subtree_control"
)

// enable puts the v2 directory n, at path, under want: the groups above it pass
// the controllers on, each as far as it does not. What n has already tells
// whether anything is to do, in one read. It returns what n is under as far as
// it knows: at least want.
func (n *node) enable(path string, want Controllers) (Controllers, error) {
	if want == 0 {
		return 0, nil
	}
	have, err := readControllers(n.dir, fileControllers)
	if err != nil || have&want == want {
		return have, n.failed(err)
	}
	top := n.in.dir
	if err := enableBelow(top, "", want); err != nil {
		return have, err
	}
	for i := range len(path) {
		if path[i] == '/' {
			if err := enableBelow(top, path[:i+1], want); err != nil {
				return have, err
			}
		}
	}
	return have | want, nil
}

// enableBelow makes the group with this prefix ("" or "a/") pass want on to its
// children.
func enableBelow(top *kernfs.Dir, prefix string, want Controllers) error {
	have, err := readControllers(top, prefix+fileSubtree)
	if err != nil {
		return err
	}
	missing := want &^ have
	if missing == 0 {
		return nil
	}
	if processes, err := inner(top, prefix); err != nil {
		return err
	} else if processes {
		return &InternalProcessError{Path: name(top, prefix), Controllers: missing, Err: syscall.EBUSY}
	}
	var b strings.Builder
	for _, ctl := range missing.List() {
		b.WriteString(" +")
		b.WriteString(ctl.String())
	}
	err = top.WriteFile(prefix+fileSubtree, b.String()[1:])
	switch {
	case errors.Is(err, syscall.EBUSY):
		return &InternalProcessError{Path: name(top, prefix), Controllers: missing, Err: err}
	case errors.Is(err, syscall.ENOENT):
		// The file was there a moment ago, so it is the controller that is not.
		if there, e := readControllers(top, prefix+fileControllers); e == nil && missing&^there != 0 {
			return &UnsupportedError{
				Feature: (missing &^ there).String() + " controller",
				Reason:  name(top, prefix) + " was not given it by its parent", Err: err,
			}
		}
	}
	return err
}

// name is the path of the group with this prefix.
func name(top *kernfs.Dir, prefix string) string {
	if prefix == "" {
		return top.Path()
	}
	return top.Join(prefix[:len(prefix)-1])
}

// inner reports whether the group with this prefix has processes of its own and
// is not the hierarchy's root, which may. The kernel refuses to enable memory or
// io then. It would enable cpu or pids, but turn the group into a threaded
// domain, in whose children no process can be.
func inner(top *kernfs.Dir, prefix string) (bool, error) {
	var buf [64]byte
	b, err := top.ReadFile(prefix+fileProcs, buf[:])
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return false, nil // threaded: the kernel decides
	}
	if err != nil || len(b) == 0 {
		return false, err
	}
	return top.Has(prefix + "cgroup.type") // the root has none
}

// explainMkdir finds the limit behind mkdir's EAGAIN.
func (h *hierarchy) explainMkdir(path string, err error) error {
	if !h.v2 || !errors.Is(err, syscall.EAGAIN) {
		return err
	}
	elements := strings.Split(path, "/")
	for i := len(elements) - 1; i >= 0; i-- {
		prefix := strings.Join(elements[:i], "/")
		if i > 0 {
			prefix += "/"
		}
		depth, descendants := h.limits(prefix)
		if depth != "" && depth != wordMax {
			if n, e := strconv.Atoi(depth); e == nil && len(elements)-i > n {
				return &TreeLimitError{Path: h.dir.Join(prefix + "cgroup.max.depth"), Limit: depth, Err: err}
			}
		}
		if descendants != "" && descendants != wordMax {
			if n, e := strconv.Atoi(descendants); e == nil && h.descendants(prefix) >= n {
				return &TreeLimitError{Path: h.dir.Join(prefix + "cgroup.max.descendants"), Limit: descendants, Err: err}
			}
		}
	}
	return err
}

func (h *hierarchy) limits(prefix string) (depth, descendants string) {
	a, _ := h.dir.ReadFile(prefix+"cgroup.max.depth", nil)
	b, _ := h.dir.ReadFile(prefix+"cgroup.max.descendants", nil)
	return strings.TrimSpace(string(a)), strings.TrimSpace(string(b))
}

func (h *hierarchy) descendants(prefix string) int {
	b, _ := h.dir.ReadFile(prefix+"cgroup.stat", nil)
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(line, "nr_descendants "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(s))
			return n
		}
	}
	return 0
}
