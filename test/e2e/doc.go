// SPDX-License-Identifier: Apache-2.0

// Package e2e proves the library on containers of other people's runtimes:
// Docker, runc, crun and LXC, and on services of systemd. Its tests install
// nothing and run only when asked to, since they start a Docker daemon of their
// own:
//
//	make e2e
//
// Those of systemd, and of the knobs that only v2 has, run in the kernel matrix
// where systemd is init: see test/vm.
package e2e
