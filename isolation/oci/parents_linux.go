// SPDX-License-Identifier: Apache-2.0

//go:build linux && cgo

package oci

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
)

// parents are the groups above the sandboxes' in hierarchies that libcontainer
// uses and the host does not, such as systemd's own on cgroup v1. libcontainer makes
// them, and removes none. They are written down before, and removed with the last
// sandbox.
type parents struct {
	file string

	// Starts make what sweep removes, so they hold it for reading.
	using sync.RWMutex

	mu   sync.Mutex
	made []string // outermost first
}

func openParents(file string) (*parents, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	p := &parents{file: file}
	// A line without its end was cut off, before anything was made.
	if end := bytes.LastIndexByte(text, '\n'); end > 0 {
		p.made = strings.Split(string(text[:end]), "\n")
	}
	return p, nil
}

// note writes down which directories are missing above groups, which are the ones
// called path in several hierarchies.
func (p *parents) note(path string, groups map[string]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []byte
	var made []string
	for _, group := range groups {
		top, ok := strings.CutSuffix(group, "/"+path)
		if !ok {
			continue
		}
		for i, c := range path {
			if c != '/' {
				continue
			}
			dir := top + "/" + path[:i]
			if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
				made = append(made, dir)
				lines = append(append(lines, dir...), '\n')
			}
		}
	}
	if len(made) == 0 {
		return nil
	}
	f, err := os.OpenFile(p.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(lines)
	p.made = append(p.made, made...)
	return errors.Join(err, f.Close())
}

// sweep removes what is empty, unless a start is under way: then a later one does.
func (p *parents) sweep() error {
	if !p.using.TryLock() {
		return nil
	}
	defer p.using.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.made) > 0 {
		last := p.made[len(p.made)-1]
		switch err := syscall.Rmdir(last); {
		case err == syscall.EBUSY || err == syscall.ENOTEMPTY:
			return nil
		case err != nil && err != syscall.ENOENT:
			return &os.PathError{Op: "rmdir", Path: last, Err: err}
		}
		p.made = p.made[:len(p.made)-1]
	}
	if err := os.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// parentsFile is the name of the list in Config.Root. No sandbox is called that.
const parentsFile = "_parents"
