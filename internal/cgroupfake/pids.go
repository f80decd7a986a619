// SPDX-License-Identifier: Apache-2.0

package cgroupfake

import (
	"strconv"
	"syscall"
)

// mostPIDs is PID_MAX_LIMIT.
const mostPIDs = 1 << 22

// pidsKinds are the files of pids (kernel/cgroup/pids.c).
func (t *tree) pidsKinds() []kind {
	kinds := []kind{
		keeps("pids.max", pids, "max", func(_ *group, data string) (string, error) {
			data = strip(data)
			if data == "max" {
				return data, nil
			}
			n, err := parseInt(data, 64)
			if err == nil && (n < 0 || n > mostPIDs) {
				err = syscall.EINVAL
			}
			return strconv.FormatInt(n, 10), err
		}),
		shows("pids.current", pids, notTop, func(g *group) string { return bytes(g.tasks()) }),
		shows("pids.events", pids, notTop, func(g *group) string {
			return counters("max", g.sum(func(w *work) uint64 { return w.forkFails }))
		}),
	}
	return append(kinds, t.since(6, 1, shows("pids.peak", pids, notTop, func(g *group) string { return bytes(g.tasks()) }))...)
}
