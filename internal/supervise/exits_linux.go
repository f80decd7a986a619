// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/caisson-run/caisson/internal/checkpoint"
	"github.com/caisson-run/caisson/internal/linux"
)

// exitVersion is the format of the files below.
const exitVersion = 1

// exitLine is what is on disk of an end that nobody has acknowledged.
type exitLine struct {
	Version int    `json:"v"`
	Boot    string `json:"boot"`
	PID     int    `json:"pid"`
	Inode   uint64 `json:"inode,omitzero"`
	Since   uint64 `json:"since,omitzero"`
	Exit    Exit   `json:"exit"`
}

// exits is the directory of those.
type exits struct {
	dir  *checkpoint.Dir
	boot string
}

func openExits(path string) (*exits, error) {
	boot, err := linux.BootID()
	if err != nil {
		return nil, err
	}
	dir, err := checkpoint.Open(path)
	return &exits{dir, boot}, err
}

// write replaces what is there of id.
func (e *exits) write(id string, p Process, exit Exit) error {
	line := exitLine{Version: exitVersion, Boot: e.boot, PID: p.PID, Inode: p.Inode, Since: p.Since, Exit: exit}
	log, err := e.dir.Create(id, line)
	if errors.Is(err, fs.ErrExist) {
		if err = e.remove(id); err == nil {
			log, err = e.dir.Create(id, line)
		}
	}
	if err != nil {
		return err
	}
	return log.Close()
}

// read is the end of p, or an error that wraps [ErrUnknown].
func (e *exits) read(id string, p Process) (Exit, error) {
	whose, exit, err := e.load(id)
	if err == nil && !p.same(whose) {
		exit, err = Exit{}, ErrUnknown
	}
	return exit, err
}

// load is what is there of id, or an error that wraps [ErrUnknown].
func (e *exits) load(id string) (p Process, exit Exit, err error) {
	found := false
	log, err := e.dir.Load(id, func(text []byte) error {
		var line exitLine
		if err := json.Unmarshal(text, &line); err != nil {
			return err
		}
		if line.Version == exitVersion && line.Boot == e.boot {
			p, exit, found = Process{line.PID, line.Inode, line.Since}, line.Exit, true
		}
		return nil
	})
	if log != nil {
		err = errors.Join(err, log.Close())
	}
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return Process{}, Exit{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	case !found:
		return Process{}, Exit{}, ErrUnknown
	}
	return p, exit, nil
}

// further are the ids of further processes, by sandbox.
func (e *exits) further() (map[string][]string, error) {
	ids, err := e.dir.Names()
	list := make(map[string][]string)
	for _, id := range ids {
		if sandbox, name := Owner(id); name != "" {
			list[sandbox] = append(list[sandbox], id)
		}
	}
	return list, err
}

// await is read that gives another supervisor a moment to write it.
func (e *exits) await(ctx context.Context, id string, p Process) (Exit, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		exit, err := e.read(id, p)
		if err == nil {
			return exit, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return Exit{}, err
		}
	}
}

func (e *exits) remove(id string) error {
	err := os.Remove(e.dir.Path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
