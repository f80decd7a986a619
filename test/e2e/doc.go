// SPDX-License-Identifier: Apache-2.0

// Package e2e proves the library on containers of other people's runtimes:
// Docker, runc, crun and LXC. Its tests install nothing and run only when asked
// to, since they start a Docker daemon of their own:
//
//	make e2e
package e2e
