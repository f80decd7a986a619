// SPDX-License-Identifier: Apache-2.0

// Package foreign starts containers with other people's runtimes, for the tests
// and benchmarks that take charge of them: Docker, runc, crun and LXC as they
// are installed. Everything that it makes is below a directory and a group that
// the caller names, has no network, and is taken away again by its Close.
package foreign
