// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containernetworking/cni/libcni"
)

// record is what is kept of one sandbox, in a directory of its own: this file, the
// lock of its plugins, and libcni's cache with their results.
type record struct {
	Version int               `json:"version"`
	Lists   []json.RawMessage `json:"lists"`
	Arguments
	Done bool `json:"done,omitzero"` // every chain came to its end
}

const (
	recordVersion = 1
	recordName    = "record"
	lockName      = "lock"
)

// errVersion is a record of another version of this package.
var errVersion = errors.New("a record of another version")

// load reads the record in dir. fs.ErrNotExist: there is none.
func load(dir string) (record, error) {
	text, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return record{}, err
	}
	r, err := parseRecord(text)
	if err != nil {
		return record{}, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// parseRecord reads what save writes.
func parseRecord(text []byte) (record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, err
	}
	if r.Version != recordVersion || len(r.Lists) == 0 || len(r.Lists) > maxLists {
		return record{}, errVersion
	}
	for _, list := range r.Lists {
		if _, err := parseList(list); err != nil {
			return record{}, err
		}
	}
	return r, nil
}

// save replaces the record in dir at once: a crash leaves the old one or the new.
func (r record) save(dir string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, recordName)
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// chain is one list with its place in a sandbox.
type chain struct {
	list *libcni.NetworkConfigList
	conf *libcni.RuntimeConf
}

// chains are those of a sandbox, whose namespace is at path; empty if it is gone.
func (r record) chains(container, path string) ([]chain, error) {
	var all []chain
	for i, text := range r.Lists {
		list, err := parseList(text)
		if err != nil {
			return nil, err
		}
		all = append(all, chain{list, &libcni.RuntimeConf{
			ContainerID: container, NetNS: path, IfName: "eth" + strconv.Itoa(i),
			Args: r.Args, CapabilityArgs: r.Capabilities,
		}})
	}
	return all, nil
}

// owners are the sandboxes that there are records of, half-made ones too.
func owners(state string) ([]string, error) {
	entries, err := os.ReadDir(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, e.Name())
		}
	}
	return all, err
}
