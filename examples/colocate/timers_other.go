// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import "time"

func exactTimers() error { return nil }

func sleep(d time.Duration) { time.Sleep(d) }
