// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "errors"

func (*load) drive(int, int) error { return errors.ErrUnsupported }
