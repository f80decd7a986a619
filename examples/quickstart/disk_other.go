// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"

	"github.com/caisson-run/caisson/cgroups"
)

func diskOf(string) (cgroups.Device, error) { return cgroups.Device{}, errors.ErrUnsupported }

func scribble(string) error { return errors.ErrUnsupported }
