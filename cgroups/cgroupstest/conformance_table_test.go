// SPDX-License-Identifier: Apache-2.0

package cgroupstest

import "strings"

// table is what kernels do. Group a is there when a script begins.
var table = []conformance{
	{"tree", 2, "", "", `
		mkdir a ! EEXIST
		mkdir x/y ! ENOENT
		mkdir a/b
		rmdir a ! EBUSY
		rmdir a/b
		rmdir a/b ! ENOENT
		mkdir a/cgroup.procs ! EEXIST
	`},
	{"gone", 2, "", "", `
		hold a/cgroup.max.depth
		held ? max
		rmdir a
		held ? max ! ENODEV
		held = 5 ! ENODEV
		a/cgroup.max.depth ? max ! ENOENT
		mkdir a
		held ? max ! ENODEV
	`},
	{"limits", 2, "", "", `
		a/cgroup.max.depth = -1 ! ERANGE
		a/cgroup.max.depth = x ! EINVAL
		a/cgroup.max.depth = "\n" ! EINVAL
		a/cgroup.max.depth = "" => max
		a/cgroup.max.depth = "1\n" => 1
		mkdir a/b
		mkdir a/b/c ! EAGAIN
		a/cgroup.max.depth = max => max
		a/cgroup.max.descendants = 2 => 2
		mkdir a/b/c
		mkdir a/d ! EAGAIN
		a/cgroup.stat ~ nr_descendants 2
		a/cgroup.max.descendants = 1
		mkdir a/b/c/d ! EAGAIN
		a/cgroup.max.descendants = 0x10 => 16
		mkdir a/b/c/d
	`},
	{"freeze", 2, "", "", `
		mkdir a/b
		a/cgroup.freeze = 2 ! ERANGE
		a/cgroup.freeze = -1 ! ERANGE
		a/cgroup.freeze = x ! EINVAL
		a/cgroup.freeze = 1 => 1
		a/cgroup.events ~ frozen 1
		a/b/cgroup.events ~ frozen 1
		a/b/cgroup.freeze ? 0
		a/cgroup.freeze = 0
		a/b/cgroup.events ~ frozen 0
		start a/b
		a/cgroup.events ~ populated 1
		a/cgroup.freeze = 1
		a/cgroup.events ~ frozen 1
		a/b/cgroup.freeze = 0
		a/b/cgroup.events ~ frozen 1
		rmdir a/b ! EBUSY
		alive p1
	`},
	{"kill", 2, "", "cgroup.kill", `
		mkdir a/b
		start a/b
		a/cgroup.kill = 0 ! ERANGE
		a/cgroup.kill = x ! EINVAL
		a/cgroup.kill ? 1 ! EINVAL
		a/cgroup.freeze = 1
		a/cgroup.events ~ frozen 1
		a/cgroup.kill = 1
		dead p1
		a/cgroup.events ~ populated 0
		rmdir a/b
	`},
	{"procs", 2, "", "", `
		a/cgroup.procs = x ! EINVAL
		a/cgroup.procs = -1 ! EINVAL
		a/cgroup.procs = 2147483647 ! ESRCH
		start a
		a/cgroup.events ~ populated 1
		mkdir b
		b/cgroup.procs = p1
		a/cgroup.procs ? ""
		a/cgroup.events ~ populated 0
		b/cgroup.events ~ populated 1
		rmdir a
		rmdir b ! EBUSY
	`},
	{"threaded", 2, "", "", `
		a/cgroup.type ? domain
		mkdir a/b
		a/b/cgroup.type = domain ! EINVAL
		a/b/cgroup.type = threaded => threaded
		a/b/cgroup.type = threaded
		a/cgroup.type ? domain threaded
		a/b/cgroup.procs ? x ! EOPNOTSUPP
		a/b/cgroup.threads ? ""
		mkdir a/c
		a/c/cgroup.type ? domain invalid
		start a/c ! EOPNOTSUPP
		mkdir a/b/d
		a/b/d/cgroup.type ? domain invalid
		a/b/d/cgroup.type = threaded => threaded
	`},
	{"read-only", 2, "", "", `
		a/cgroup.events = x ! EINVAL
		a/cgroup.controllers = x ! EINVAL
		a/cgroup.stat = 1 ! EINVAL
	`},
	{"pressure", 2, "", "cgroup.pressure", `
		a/cgroup.pressure ? 1
		a/cgroup.pressure = 2 ! ERANGE
		a/cgroup.pressure = x ! EINVAL
		hold a/cpu.pressure
		a/cgroup.pressure = 0 => 0
		a/cpu.pressure ? x ! ENOENT
		held ? x ! ENODEV
		a/cgroup.pressure = 1
		a/cpu.pressure ~ some avg10=0.00 avg60=0.00 avg300=0.00 total=0
		held ? x ! ENODEV
	`},
	{"trigger", 2, "", "cgroup.pressure", `
		a/memory.pressure = "some 150000 2000000\x00"
		a/memory.pressure = "some 150000 20000000\x00" ! EINVAL
		a/memory.pressure = "some 3000000 2000000\x00" ! EINVAL
		a/memory.pressure = "any 150000 2000000\x00" ! EINVAL
		a/memory.pressure = "full 150000 2000000\x00"
		a/cpu.pressure = "full 150000 2000000\x00"
	`},

	{"subtree", 2, "memory", "", `
		cgroup.subtree_control ? memory
		a/cgroup.controllers ? memory
		a/cgroup.subtree_control = +nonsense ! EINVAL
		a/cgroup.subtree_control = memory ! EINVAL
		a/cgroup.subtree_control = +pids ! ENOENT
		a/cgroup.subtree_control = +memory
		cgroup.subtree_control = -memory ! EBUSY
		a/cgroup.subtree_control = -memory => ""
		a/cgroup.subtree_control = -pids
		cgroup.subtree_control = -memory
		a/memory.max ? max ! ENOENT
		cgroup.subtree_control = +memory
		a/memory.max ? max
	`},
	{"forgets", 2, "memory", "", `
		a/memory.max = 1048576
		hold a/memory.max
		cgroup.subtree_control = -memory
		held ? x ! ENODEV
		cgroup.subtree_control = +memory
		a/memory.max ? max
		held ? x ! ENODEV
	`},
	{"internal processes", 2, "memory", "", `
		mkdir a/b
		start a
		a/cgroup.subtree_control = +memory ! EBUSY
		a/b/cgroup.procs = p1
		a/cgroup.subtree_control = +memory
		a/cgroup.procs = p1 ! EBUSY
		a/cgroup.subtree_control = -memory
		a/cgroup.procs = p1
	`},
	{"threaded controllers", 2, "pids", "", `
		start a
		a/cgroup.subtree_control = +pids
		a/cgroup.type ? domain threaded
		mkdir a/b
		a/b/cgroup.type ? domain invalid
		a/b/cgroup.procs = p1 ! EOPNOTSUPP
		a/cgroup.subtree_control = -pids
		a/b/cgroup.procs = p1
	`},
	{"no domain controllers below threads", 2, "memory", "", `
		mkdir a/b
		a/b/cgroup.type = threaded
		a/cgroup.subtree_control = +memory ! EOPNOTSUPP
	`},

	{"weight", 2, "cpu", "", `
		a/cpu.weight ? 100
		a/cpu.weight = 0 ! ERANGE
		a/cpu.weight = 10001 ! ERANGE
		a/cpu.weight = x ! EINVAL
		a/cpu.weight = -1 ! EINVAL
		a/cpu.weight = " 5" ! EINVAL
		a/cpu.weight = 18446744073709551616 ! ERANGE
		a/cpu.weight = "10000\n" => 10000
		a/cpu.weight = 1 => 1
		a/cpu.weight.nice ? 19
		a/cpu.weight = 100
		a/cpu.weight.nice ? 0
		a/cpu.weight.nice = -21 ! ERANGE
		a/cpu.weight.nice = 5
		a/cpu.weight ? 33
	`},
	{"idle", 2, "cpu", "cpu.idle", `
		a/cpu.weight = 500
		a/cpu.idle = 2 ! EINVAL
		a/cpu.idle = -1 ! EINVAL
		a/cpu.idle = 0
		a/cpu.weight ? 500
		a/cpu.idle = 1 => 1
		<6.12 a/cpu.weight ? 0
		>=6.12 a/cpu.weight ? 1
		a/cpu.weight = 500 ! EINVAL
		a/cpu.idle = 1
		a/cpu.idle = 0 => 0
		a/cpu.weight ? 100
	`},
	{"max", 2, "cpu", "", `
		a/cpu.max ? max 100000
		a/cpu.max = 50000 => 50000 100000
		a/cpu.max = "50000 200000" => 50000 200000
		a/cpu.max = "max" => max 200000
		a/cpu.max = "max 100000" => max 100000
		a/cpu.max = 999 ! EINVAL
		a/cpu.max = 1000 => 1000 100000
		a/cpu.max = "1000 999" ! EINVAL
		a/cpu.max = "1000 1000001" ! EINVAL
		a/cpu.max = "max 1000000" => max 1000000
		a/cpu.max = "max 999" ! EINVAL
		a/cpu.max = "\n" ! EINVAL
		a/cpu.max = x ! EINVAL
		a/cpu.max = 17592186044416 ! EINVAL
		a/cpu.max = "0" ! EINVAL
	`},
	{"burst", 2, "cpu", "cpu.max.burst", `
		a/cpu.max.burst = 60000 => 60000
		a/cpu.max.burst = 0
		a/cpu.max = 50000
		a/cpu.max.burst = 50001 ! EINVAL
		a/cpu.max.burst = 50000 => 50000
		a/cpu.max = 40000 ! EINVAL
		a/cpu.max ? 50000 100000
		a/cpu.max = max
		a/cpu.max.burst ? 50000
		a/cpu.max = 40000 ! EINVAL
		a/cpu.max.burst = -1 ! EINVAL
		a/cpu.max.burst = 40000
		a/cpu.max = 40000
	`},
	{"max of parent and child", 2, "cpu", "", `
		a/cgroup.subtree_control = +cpu
		mkdir a/b
		a/cpu.max = 20000
		a/b/cpu.max = 50000 => 50000 100000
		a/cpu.max = 10000 => 10000 100000
		a/b/cpu.max ? 50000 100000
	`},

	{"shares", 1, "cpu", "", `
		a/cpu.shares ? 1024
		a/cpu.shares = 0 => 2
		a/cpu.shares = 1 => 2
		a/cpu.shares = 262145 => 262144
		a/cpu.shares = 18446744073709551615 => 262144
		a/cpu.shares = -1 ! EINVAL
		a/cpu.shares = x ! EINVAL
		a/cpu.shares = 18446744073709551616 ! ERANGE
		a/cpu.shares = 0x400 => 1024
	`},
	{"idle", 1, "cpu", "cpu.idle", `
		a/cpu.shares = 2048
		a/cpu.idle = 1 => 1
		a/cpu.shares ? 3
		a/cpu.shares = 2048 ! EINVAL
		a/cpu.idle = 0
		a/cpu.shares ? 1024
	`},
	{"quota and period", 1, "cpu", "", `
		a/cpu.cfs_quota_us ? -1
		a/cpu.cfs_quota_us = -2 => -1
		a/cpu.cfs_quota_us = 999 ! EINVAL
		a/cpu.cfs_quota_us = 1000 => 1000
		a/cpu.cfs_period_us = 999 ! EINVAL
		a/cpu.cfs_period_us = 1000001 ! EINVAL
		a/cpu.cfs_period_us = 1000000 => 1000000
		a/cpu.cfs_quota_us ? 1000
		a/cpu.cfs_quota_us = 0 ! EINVAL
		a/cpu.cfs_quota_us = x ! EINVAL
	`},
	{"burst", 1, "cpu", "cpu.cfs_burst_us", `
		a/cpu.cfs_burst_us = 60000 => 60000
		a/cpu.cfs_burst_us = 0
		a/cpu.cfs_quota_us = 50000
		a/cpu.cfs_burst_us = 50001 ! EINVAL
		a/cpu.cfs_burst_us = 50000
		a/cpu.cfs_quota_us = 40000 ! EINVAL
		a/cpu.cfs_quota_us = -1
		a/cpu.cfs_burst_us ? 50000
	`},
	{"quota of parent and child", 1, "cpu", "", `
		mkdir a/b
		mkdir a/b/c
		a/cpu.cfs_quota_us = 50000
		a/b/cpu.cfs_quota_us = 50001 ! EINVAL
		a/b/cpu.cfs_quota_us = 50000
		a/cpu.cfs_quota_us = 49999 ! EINVAL
		a/b/cpu.cfs_period_us = 99999 ! EINVAL
		a/cpu.cfs_period_us = 100002 ! EINVAL
		a/b/cpu.cfs_quota_us = -1
		a/cpu.cfs_quota_us = 40000
		a/b/c/cpu.cfs_quota_us = 40001 ! EINVAL
		a/b/c/cpu.cfs_quota_us = 40000
		a/cpu.cfs_quota_us = 39999 ! EINVAL
		a/cpu.cfs_quota_us = -1
		a/b/cpu.cfs_quota_us = 39999 ! EINVAL
		a/b/cpu.cfs_quota_us = 1000000
	`},

	{"lists", 2, "cpuset", "", `
		a/cpuset.cpus ? ""
		a/cpuset.cpus.effective ? 0-1
		a/cpuset.cpus = 1 => 1
		a/cpuset.cpus.effective ? 1
		a/cpuset.cpus = "0-1\n" => 0-1
		a/cpuset.cpus = "1,0" => 0-1
		a/cpuset.cpus = 1-0 ! EINVAL
		a/cpuset.cpus = x ! EINVAL
		a/cpuset.cpus = 99999 ! ERANGE
		a/cpuset.cpus ? 0-1
		a/cpuset.cpus = "\n" => ""
		a/cpuset.cpus.effective ? 0-1
		a/cpuset.mems = 0 => 0
		a/cpuset.mems = "\n" => ""
		a/cpuset.mems.effective ? 0
	`},
	{"nested", 2, "cpuset", "", `
		a/cgroup.subtree_control = +cpuset
		mkdir a/b
		a/cpuset.cpus = 0
		a/b/cpuset.cpus = 1 => 1
		a/b/cpuset.cpus.effective ? 0
		a/cpuset.cpus = 0-1
		a/b/cpuset.cpus.effective ? 1
		a/cpuset.cpus = 1
		<6.1 a/cpuset.cpus = 0 ! EBUSY
		>=6.1 a/cpuset.cpus = 0
		start a/b
		a/b/cpuset.cpus = "\n" ! ENOSPC
	`},
	{"lists", 1, "cpuset", "", `
		a/cpuset.cpus ? ""
		start a ! ENOSPC
		a/cpuset.cpus = 0-1
		a/cpuset.mems = 0
		start a
		a/cpuset.cpus = 1 => 1
		a/cpuset.cpus = "\n" ! ENOSPC
		a/cpuset.mems = "\n" ! ENOSPC
		a/cpuset.cpus = x ! EINVAL
		a/cpuset.cpus = 1-0 ! EINVAL
		a/cpuset.cpus ? 1
	`},
	{"nested", 1, "cpuset", "", `
		mkdir a/b
		a/b/cpuset.cpus = 0 ! EACCES
		a/cpuset.cpus = 0-1
		a/b/cpuset.cpus = 0-1
		a/cpuset.cpus = 0 ! EBUSY
		a/cpuset.cpus = "\n" ! EBUSY
		a/b/cpuset.cpus = 0
		a/cpuset.cpus = 0 => 0
		a/b/cpuset.cpus = 0-1 ! EACCES
		a/b/cpuset.cpus = "\n" => ""
		a/cpuset.cpus = "\n" => ""
	`},
	{"clone_children", 1, "cpuset", "", `
		a/cpuset.cpus = 0
		a/cpuset.mems = 0
		a/cgroup.clone_children = 1 => 1
		mkdir a/b
		a/b/cpuset.cpus ? 0
		a/b/cgroup.clone_children ? 1
	`},
	{"exclusive", 1, "cpuset", "", `
		mkdir b
		a/cpuset.cpus = 0
		b/cpuset.cpus = 0
		a/cpuset.cpu_exclusive = 1 ! EACCES
	`},

	{"amounts", 2, "memory", "", `
		a/memory.max ? max
		a/memory.max = 4097 => 4096
		a/memory.max = 1M => 1048576
		a/memory.max = 0x2000 => 8192
		a/memory.max = -1 ! EINVAL
		a/memory.max = x ! EINVAL
		a/memory.max = 1Mx ! EINVAL
		a/memory.max = 1MB ! EINVAL
		a/memory.max = max => max
		a/memory.max = 9223372036854775807 => max
		a/memory.max = 18446744073709551615 => max
		a/memory.max = "\n" => 0
		a/memory.max = 4095 => 0
		a/memory.max = 1K => 0
		a/memory.high = 4095 => 0
		a/memory.low = 8191 => 4096
		a/memory.min = max => max
		a/memory.oom.group = 2 ! EINVAL
		a/memory.oom.group = x ! EINVAL
		a/memory.oom.group = "\n" ! EINVAL
		a/memory.oom.group = "1\n" => 1
		a/memory.current ? 0
	`},
	{"swap", 2, "memory", "memory.swap.max", `
		a/memory.swap.max = 4097 => 4096
		a/memory.swap.max = 0 => 0
		a/memory.swap.max = max => max
		a/memory.swap.high = 1M => 1048576
		a/memory.swap.current ? 0
	`},
	{"reclaim of nothing", 2, "memory", "memory.reclaim", `
		a/memory.reclaim = 1M ! EAGAIN
		a/memory.reclaim = x ! EINVAL
		a/memory.reclaim = 0
		a/memory.reclaim ? 0 ! EINVAL
	`},
	{"max below usage kills", 2, "memory", "", `
		a/memory.swap.max = 0
		start a 64M
		a/memory.max = 16M
		dead p1
		a/memory.max ? 16777216
		a/memory.events ~ oom_kill 1
		a/memory.events.local ~ oom_kill 1
	`},
	{"high below usage kills nobody", 2, "memory", "", `
		a/memory.swap.max = 0
		start a 64M
		a/memory.high = 16M => 16777216
		a/memory.events ~ oom_kill 0
		alive p1
		a/memory.high = max
	`},
	{"group", 2, "memory", "", `
		a/memory.swap.max = 0
		a/memory.oom.group = 1
		start a 8M
		start a 64M
		a/memory.max = 32M
		dead p1
		dead p2
		>=5.17 a/memory.events ~ oom_group_kill 1
	`},
	{"kill below counts above", 2, "memory", "", `
		a/cgroup.subtree_control = +memory
		mkdir a/b
		a/memory.swap.max = 0
		start a/b 64M
		a/memory.max = 16M
		dead p1
		a/memory.events ~ oom_kill 1
		a/memory.events.local ~ oom_kill 0
		a/b/memory.events.local ~ oom_kill 1
	`},

	{"amounts", 1, "memory", "", `
		a/memory.limit_in_bytes ? 9223372036854771712
		a/memory.limit_in_bytes = 1048577 => 1048576
		a/memory.limit_in_bytes = -1 => 9223372036854771712
		a/memory.limit_in_bytes = 9223372036854775808 => 9223372036854771712
		a/memory.limit_in_bytes = max ! EINVAL
		a/memory.limit_in_bytes = x ! EINVAL
		a/memory.limit_in_bytes = -2 ! EINVAL
		a/memory.limit_in_bytes = 1M => 1048576
		a/memory.soft_limit_in_bytes = 4097 => 4096
		a/memory.limit_in_bytes = 4095 => 0
		a/memory.limit_in_bytes = 1K => 0
		a/memory.limit_in_bytes = "\n" => 0
	`},
	{"memsw", 1, "memory", "memory.memsw.limit_in_bytes", `
		a/memory.memsw.limit_in_bytes = 8M ! EINVAL
		a/memory.limit_in_bytes = 4M
		a/memory.memsw.limit_in_bytes = 2M ! EINVAL
		a/memory.memsw.limit_in_bytes = 8M => 8388608
		a/memory.limit_in_bytes = 16M ! EINVAL
		a/memory.limit_in_bytes = -1 ! EINVAL
		a/memory.limit_in_bytes = 8M => 8388608
		a/memory.memsw.limit_in_bytes = -1
		a/memory.limit_in_bytes = -1
	`},
	{"limit below usage", 1, "memory", "", `
		a/memory.swappiness = 0
		start a 64M
		a/memory.limit_in_bytes = 1M ! EBUSY
		a/memory.limit_in_bytes ? 9223372036854771712
		alive p1
		a/memory.oom_control ~ oom_kill 0
		a/memory.limit_in_bytes = 512M
	`},

	{"max", 2, "pids", "", `
		a/pids.max ? max
		a/pids.max = 0 => 0
		a/pids.max = 4194304 => 4194304
		a/pids.max = 4194305 ! EINVAL
		a/pids.max = -1 ! EINVAL
		a/pids.max = x ! EINVAL
		a/pids.max = "\n" ! EINVAL
		a/pids.max = "max\n" => max
	`},
	{"max", 1, "pids", "", `
		a/pids.max ? max
		a/pids.max = 0 => 0
		a/pids.max = 4194304 => 4194304
		a/pids.max = 2147483648 ! EINVAL
		a/pids.max = -1 ! EINVAL
		a/pids.max = max => max
	`},

	{"io.max", 2, "io", "io.max", `
		a/io.max ? ""
		a/io.max = "4000:1 rbps=1" ! ENODEV
		a/io.max = "x rbps=1" ! EINVAL
		a/io.max = "$DISK rbps=1048576" => $DISK rbps=1048576 wbps=max riops=max wiops=max
		a/io.max = "$DISK wiops=100" => $DISK rbps=1048576 wbps=max riops=max wiops=100
		a/io.max = "$DISK rbps=0" ! ERANGE
		a/io.max = "$DISK nonsense=1" ! EINVAL
		a/io.max = "$DISK rbps=x" ! EINVAL
		a/io.max = "$DISK wiops=4294967295 rbps=2M" => $DISK rbps=2 wbps=max riops=max wiops=max
		a/io.max = "$DISK rbps=max wiops=max" => ""
	`},
	{"io.weight", 2, "io", "io.weight", `
		a/io.weight ? default 100
		a/io.weight = 200 => default 200
		a/io.weight = "default 300" => default 300
		a/io.weight = 0 ! EINVAL
		a/io.weight = 10001 ! EINVAL
		a/io.weight = x ! EINVAL
		a/io.weight = "4000:1 100" ! ENODEV
	`},
	{"io.bfq.weight", 2, "io", "io.bfq.weight", `
		a/io.bfq.weight ? default 100
		a/io.bfq.weight = 1000 => default 1000
		a/io.bfq.weight = 0 ! ERANGE
		a/io.bfq.weight = 1001 ! ERANGE
		a/io.bfq.weight = "4000:1 100" ! ENODEV
	`},
	{"io.latency", 2, "io", "io.latency", `
		a/io.latency ? ""
		a/io.latency = "4000:1 target=1" ! ENODEV
		a/io.latency = "$DISK target=1000" => $DISK target=1000
		a/io.latency = "$DISK target=x" ! EINVAL
		a/io.latency = "$DISK target=0" => ""
	`},
	{"bfq", 1, "io", "blkio.bfq.weight", `
		a/blkio.bfq.weight ? 100
		a/blkio.bfq.weight = 1000 => 1000
		a/blkio.bfq.weight = 0 ! ERANGE
		a/blkio.bfq.weight = 1001 ! ERANGE
	`},
	{"misc", 2, "misc", "misc.max", `
		a/misc.max ? ""
		a/misc.max = "nothing 1" ! EINVAL
		a/misc.max = 1 ! EINVAL
	`},
	{"rdma", 2, "rdma", "rdma.max", `
		a/rdma.max ? ""
		a/rdma.max = "none hca_handle=1" ! ENODEV
		a/rdma.max = "none nonsense=1" ! EINVAL
	`},
	{"partition", 2, "cpuset", "cpuset.cpus.partition", `
		a/cpuset.cpus.partition ? member
		a/cpuset.cpus.partition = x ! EINVAL
		a/cpuset.cpus.partition = member => member
		<6.1 a/cpuset.cpus.partition = isolated ! EINVAL
	`},
	{"long", 2, "cpu", "", "a/cpu.weight = " + strings.Repeat("1", 4097) + " ! E2BIG"},
	{"throttle", 1, "io", "blkio.throttle.read_bps_device", `
		a/blkio.throttle.read_bps_device ? ""
		a/blkio.throttle.read_bps_device = "4000:1 1" ! ENODEV
		a/blkio.throttle.read_bps_device = "x 1" ! EINVAL
		a/blkio.throttle.read_bps_device = "$DISK 1048576" => $DISK 1048576
		a/blkio.throttle.read_bps_device = "$DISK x" ! EINVAL
		a/blkio.throttle.read_bps_device = "$DISK 0" => ""
		a/blkio.throttle.write_iops_device = "$DISK 7" => $DISK 7
	`},
	{"huge pages", 2, "hugetlb", "hugetlb.2MB.max", `
		<6.13 a/hugetlb.2MB.max ? max
		>=6.13 a/hugetlb.2MB.max ? 9223372036854771712
		a/hugetlb.2MB.max = 3M => 2097152
		a/hugetlb.2MB.max = 1M => 0
		a/hugetlb.2MB.max = -1 ! EINVAL
		a/hugetlb.2MB.max = max => max
		a/hugetlb.2MB.current ? 0
	`},
	{"huge pages", 1, "hugetlb", "hugetlb.2MB.limit_in_bytes", `
		a/hugetlb.2MB.limit_in_bytes ? 9223372036852678656
		a/hugetlb.2MB.limit_in_bytes = 3M => 2097152
		a/hugetlb.2MB.limit_in_bytes = max ! EINVAL
		a/hugetlb.2MB.limit_in_bytes = -1 => 9223372036852678656
	`},
	{"devices", 1, "devices", "", `
		a/devices.list ? a *:* rwm
		a/devices.deny = a
		a/devices.list ? ""
		a/devices.allow = "c 1:3 rw"
		a/devices.list ? c 1:3 rw
		a/devices.allow = "c 1:3 m"
		a/devices.list ? c 1:3 rwm
		a/devices.allow = "b 8:* r"
		a/devices.list ? c 1:3 rwm | b 8:* r
		a/devices.deny = "c 1:3 w"
		a/devices.list ? c 1:3 rm | b 8:* r
		a/devices.deny = "b 8:* rwm"
		a/devices.list ? c 1:3 rm
		a/devices.allow = "x 1:3 r" ! EINVAL
		a/devices.allow = "c 1 r" ! EINVAL
		a/devices.allow = "c 1:3 x" ! EINVAL
	`},
	{"nested devices", 1, "devices", "", `
		a/devices.deny = a
		a/devices.allow = "c 1:3 rw"
		mkdir a/b
		a/b/devices.list ? c 1:3 rw
		a/b/devices.allow = "c 1:5 r" ! EPERM
		a/b/devices.allow = "c 1:3 rwm" ! EPERM
		a/b/devices.allow = a ! EPERM
		a/devices.allow = "c 1:5 r"
		a/b/devices.allow = "c 1:5 r"
		a/b/devices.list ? c 1:3 rw | c 1:5 r
		a/devices.deny = "c 1:3 w"
		a/b/devices.list ? c 1:3 r | c 1:5 r
		a/devices.deny = a ! EINVAL
		a/devices.allow = a ! EINVAL
	`},
	{"freezer", 1, "freezer", "", `
		a/freezer.state ? THAWED
		a/freezer.state = x ! EINVAL
		a/freezer.state = FREEZING ! EINVAL
		mkdir a/b
		start a/b
		a/freezer.state = FROZEN
		a/freezer.state ~ FROZEN
		a/b/freezer.state ~ FROZEN
		a/b/freezer.parent_freezing ? 1
		a/b/freezer.self_freezing ? 0
		a/b/freezer.state = THAWED
		a/b/freezer.state ~ FROZEN
		a/freezer.state = "THAWED\n" => THAWED
	`},
	{"tree", 1, "pids", "", `
		mkdir a ! EEXIST
		mkdir x/y ! ENOENT
		mkdir a/b
		rmdir a ! EBUSY
		start a/b
		rmdir a/b ! EBUSY
		a/cgroup.procs = p1
		rmdir a/b
		hold a/pids.max
		mkdir c
		c/cgroup.procs = p1
		rmdir a
		held ? max ! ENODEV
		held = 1 ! ENODEV
	`},
}
