// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cni

import (
	"context"

	"github.com/caisson-run/caisson/isolation"
	current "github.com/containernetworking/cni/pkg/types/100"
)

func onlyLinux() error {
	return &isolation.UnsupportedError{Feature: "cni", Reason: "only Linux has network namespaces"}
}

// Isolator connects sandboxes by plugins. Here there are none.
type Isolator struct{}

// New is not supported here.
func New(cfg Config) (*Isolator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return nil, onlyLinux()
}

// Name is "cni".
func (*Isolator) Name() string { return "cni" }

// Prepare is not supported here.
func (*Isolator) Prepare(context.Context, *isolation.Container) error { return onlyLinux() }

// Cleanup is not supported here.
func (*Isolator) Cleanup(context.Context, *isolation.Container) error { return onlyLinux() }

// Check is not supported here.
func (*Isolator) Check(context.Context, string) error { return onlyLinux() }

// Results is not supported here.
func (*Isolator) Results(string) ([]*current.Result, error) { return nil, onlyLinux() }

// Sweep is not supported here.
func (*Isolator) Sweep(context.Context, func(id string) bool) ([]string, error) {
	return nil, onlyLinux()
}
