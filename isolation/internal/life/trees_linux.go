// SPDX-License-Identifier: Apache-2.0

package life

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/internal/parse"
)

// Trees are the hierarchies that others use and a host does not, such as systemd's
// own on cgroup v1. In there they make the groups above a container's, too, and remove
// none of them. Those are written down before, and removed with the last container.
type Trees struct {
	file string

	// Starts make what Sweep removes, so they hold it for reading.
	Using sync.RWMutex

	mu   sync.Mutex
	made []string // outermost first
}

// OpenTrees reads the list of groups in file.
func OpenTrees(file string) (*Trees, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	t := &Trees{file: file}
	// A line without its end was cut off, before anything was made.
	if end := bytes.LastIndexByte(text, '\n'); end > 0 {
		t.made = strings.Split(string(text[:end]), "\n")
	}
	return t, nil
}

// tops are where cgroup v1 is mounted.
func tops() (list []string, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		l := strings.Fields(left)
		if strings.HasPrefix(right, "cgroup ") && len(l) > 4 {
			list = append(list, parse.Unescape(l[4]))
		}
	}
	return list, nil
}

// Note writes down which groups are missing above path.
func (t *Trees) Note(path string) error {
	points, err := tops()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var missing []string
	for _, top := range points {
		for i, c := range path {
			if dir := filepath.Join(top, path[:i]); c == '/' && absent(dir) {
				missing = append(missing, dir)
			}
		}
	}
	if missing == nil {
		return nil
	}
	f, err := os.OpenFile(t.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(missing, "\n") + "\n")
	t.made = append(t.made, missing...)
	return errors.Join(err, f.Close())
}

func absent(dir string) bool {
	_, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// Remove removes a container's group where a runtime has left it, and the groups
// above that are empty. Those wait for starts that are under way.
func (t *Trees) Remove(path string) error {
	points, err := tops()
	if err != nil {
		return err
	}
	for _, top := range points {
		if dir := filepath.Join(top, path); !absent(dir) {
			if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
				return &os.PathError{Op: "rmdir", Path: dir, Err: err}
			}
		}
	}
	if !t.Using.TryLock() {
		return nil
	}
	defer t.Using.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.made) > 0 {
		last := t.made[len(t.made)-1]
		switch err := syscall.Rmdir(last); {
		case err == syscall.EBUSY || err == syscall.ENOTEMPTY:
			return nil
		case err != nil && err != syscall.ENOENT:
			return &os.PathError{Op: "rmdir", Path: last, Err: err}
		}
		t.made = t.made[:len(t.made)-1]
	}
	if err := os.Remove(t.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
