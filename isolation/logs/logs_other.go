// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package logs

import (
	"context"
	"iter"
	"os"

	"github.com/caisson-run/caisson/internal/feature"
)

func onlyLinux() error {
	return &feature.UnsupportedError{Feature: "logs", Reason: "only Linux has inotify"}
}

// Keeper has the logs of one agent open.
type Keeper struct{}

// Log takes over what one workload writes.
type Log struct{}

// OpenKeeper is not supported here.
func OpenKeeper(string) (*Keeper, error) { return nil, onlyLinux() }

// Open is not supported here.
func (*Keeper) Open(string, Config) (*Log, error) { return nil, onlyLinux() }

// Remove is not supported here.
func (*Keeper) Remove(string) error { return onlyLinux() }

// Names is not supported here.
func (*Keeper) Names() ([]string, error) { return nil, onlyLinux() }

// Close does nothing.
func (*Keeper) Close() error { return nil }

// Files is not supported here.
func (*Log) Files() (stdout, stderr *os.File, err error) { return nil, nil, onlyLinux() }

// Sync is not supported here.
func (*Log) Sync() error { return onlyLinux() }

// Finish is not supported here.
func (*Log) Finish() error { return onlyLinux() }

// Stats is zero here.
func (*Log) Stats() Stats { return Stats{} }

// Err is not supported here.
func (*Log) Err() error { return onlyLinux() }

// Close does nothing.
func (*Log) Close() error { return nil }

// Lines is not supported here.
func (*Log) Lines(context.Context) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) { yield(Line{}, onlyLinux()) }
}
