// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/namespaces"
)

// DefaultPins is where ip-netns(8) keeps network namespaces.
const DefaultPins = "/run/netns"

// Pins is a directory of pinned network namespaces.
type Pins struct{ path string }

// OpenPins opens the directory at path, made if it is missing, and makes it a
// shared mount as ip-netns(8) does: otherwise each mount namespace that is made
// later would keep the namespaces for itself.
func OpenPins(path string) (Pins, error) {
	if !filepath.IsAbs(path) {
		return Pins{}, &namespaces.InvalidError{Field: "pins", Value: clip(path), Reason: "not an absolute path"}
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return Pins{}, err
	}
	if err := linux.MountShared(path); err != nil {
		return Pins{}, &namespaces.FileError{Op: "share", Path: path, Err: err}
	}
	return Pins{path}, nil
}

// Path is the directory.
func (p Pins) Path() string { return p.path }

func (p Pins) file(name string) (string, error) {
	if err := checkWord("pin", name, 200); err != nil {
		return "", err
	}
	return filepath.Join(p.path, name), nil
}

// Create makes a network namespace and pins it. The error matches
// [os.ErrExist] if there is one of this name.
func (p Pins) Create(name string) (*namespaces.Handle, error) {
	ns, err := namespaces.Create(namespaces.Network)
	if err != nil {
		return nil, err
	}
	if err := p.Pin(name, ns); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}

// Pin keeps ns under a new name. Errors are those of [namespaces.Handle.Pin].
func (p Pins) Pin(name string, ns *namespaces.Handle) error {
	file, err := p.file(name)
	if err != nil {
		return err
	}
	return ns.Pin(file)
}

// Open holds the namespace that is pinned under name. Errors are those of
// [namespaces.OpenPath]; a namespace of another kind matches [ErrInvalid].
func (p Pins) Open(name string) (*namespaces.Handle, error) {
	file, err := p.file(name)
	if err != nil {
		return nil, err
	}
	return openNetwork(file)
}

func openNetwork(path string) (*namespaces.Handle, error) {
	ns, err := namespaces.OpenPath(path)
	if err != nil {
		return nil, err
	}
	if ns.Kind() != namespaces.Network {
		return nil, errors.Join(
			&namespaces.InvalidError{Field: "network namespace", Value: clip(path), Reason: "another kind"}, ns.Close())
	}
	return ns, nil
}

// Remove takes a pin away. Errors are those of [namespaces.Unpin].
func (p Pins) Remove(name string) error {
	file, err := p.file(name)
	if err != nil {
		return err
	}
	return namespaces.Unpin(file)
}

// Names lists the pins whose names begin with prefix, half-made ones too.
func (p Pins) Names(prefix string) ([]string, error) {
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && checkWord("pin", e.Name(), 200) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Discard takes the directory itself away, with its mount: for one that nobody
// else uses. It matches ENOTEMPTY while there are pins.
func (p Pins) Discard() error {
	names, err := p.Names("")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return &namespaces.FileError{Op: "discard", Path: p.path, Data: names[0], Err: syscall.ENOTEMPTY}
	}
	if err := linux.UnmountFile(p.path); err != nil {
		return &namespaces.FileError{Op: "discard", Path: p.path, Err: err}
	}
	return os.Remove(p.path)
}
