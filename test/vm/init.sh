#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The first process of a test machine: makes a root file system, mounts the
# cgroup hierarchies that caisson.mode= on the kernel's command line names, and
# runs every test binary in /tests as root and then as an ordinary user. It
# talks to the runner in lines that begin with "@@", and powers off.
#
# Where systemd is there, this becomes systemd, which starts it once more as a
# service, with the argument systemd, when all of that is mounted.

if [ "$1" = systemd ]; then
	mkdir -p /applets
	/bin/busybox --install -s /applets
	export PATH=/usr/bin:/usr/sbin:/applets HOME=/tmp TMPDIR=/tmp
	cd /
elif [ -x /usr/lib/systemd/systemd ]; then
	# pivot_root(2), which container runtimes call, refuses to leave an
	# initramfs: it has to be mounted once more, above itself.
	/bin/busybox mkdir /newroot
	/bin/busybox mount -o bind / /newroot
	cd /newroot
	/bin/busybox mount -o move . /
	exec /bin/busybox chroot . /usr/lib/systemd/systemd
elif [ "$1" != onroot ]; then
	# pivot_root(2) refuses to leave an initramfs, and programs under test
	# call it: move to a tmpfs first.
	/bin/busybox --install -s /bin
	mkdir /newroot
	mount -t tmpfs -o mode=755 root /newroot
	cp -a bin init modules tests /newroot
	if [ -d usr ]; then # other people's runtimes and their libraries
		cp -a usr/bin/. usr/sbin/. /newroot/bin
		mkdir /newroot/usr && cp -a usr/lib usr/lib64 /newroot/usr
		ln -s usr/lib usr/lib64 /newroot
	fi
	exec switch_root /newroot /init onroot
fi

if [ "$1" != systemd ]; then
	export PATH=/bin HOME=/tmp TMPDIR=/tmp
	mkdir -p proc sys dev tmp run etc newroot mnt
	chmod 1777 tmp
	ln -s bin sbin
	mkdir -p usr && ln -s ../bin usr/bin
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs dev /dev
	exec </dev/console >/dev/console 2>&1
	mkdir -p /dev/pts /dev/shm /dev/mqueue
	mount -t devpts devpts /dev/pts
	mount -t tmpfs -o mode=1777 shm /dev/shm
	mount -t mqueue mqueue /dev/mqueue
	mount -t tmpfs -o mode=755 run /run
	mount --make-rshared /
	ln -s /proc/self/fd /dev/fd
	printf 'root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n' >/etc/passwd
	printf 'root:x:0:\nuser:x:1000:\n' >/etc/group
	hostname caisson
	mount -t bpf bpf /sys/fs/bpf
	ip link set lo up
fi
while read -r m; do insmod "/modules/$m.ko" || echo "@@ error module $m"; done </modules/order

option() { sed -n "s/.*caisson\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
mode=$(option mode)

v1() { # v1 DIR CONTROLLERS
	mkdir -p "/sys/fs/cgroup/$1"
	mount -t cgroup -o "$2" cgroup "/sys/fs/cgroup/$1" || echo "@@ error mount of $2"
}
controllers=$(awk '$1 !~ /^#/ && $4 == 1 { print $1 }' /proc/cgroups)
by=$1 # who mounts the hierarchies
case $by.$mode in
systemd.*) ;;
*.v2) mount -t cgroup2 cgroup2 /sys/fs/cgroup ;;
*.v1 | *.hybrid) mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup ;;
*) echo "@@ error mode $mode" ;;
esac
case $by.$mode in
systemd.*) ;;
*.v1) for c in $controllers; do v1 "$c" "$c"; done ;;
*.hybrid) # as systemd does it
	v1 cpu,cpuacct cpu,cpuacct
	v1 net_cls,net_prio net_cls,net_prio
	ln -s cpu,cpuacct /sys/fs/cgroup/cpu
	ln -s cpu,cpuacct /sys/fs/cgroup/cpuacct
	ln -s net_cls,net_prio /sys/fs/cgroup/net_cls
	ln -s net_cls,net_prio /sys/fs/cgroup/net_prio
	for c in $controllers; do
		case $c in cpu | cpuacct | net_cls | net_prio) ;; *) v1 "$c" "$c" ;; esac
	done
	v1 systemd none,name=systemd
	mkdir -p /sys/fs/cgroup/unified
	mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
	;;
esac

export CAISSON_VM=1
mkswap /dev/vdb >/dev/null && swapon /dev/vdb || echo "@@ error swap"
[ -b /dev/vda ] || echo "@@ error disk"
echo "@@ up $(uname -r)"

mkfifo /run/output

# run USER COMMAND...: each test binary, through a pipe as under go test.
run() {
	user=$1
	shift
	export CAISSON_VM_HAS=$(cat "/tests/has.$user")
	while read -r t flag; do
		mkdir -p "/tmp/$user/$t" && cd "/tmp/$user/$t" && chown 1000 .
		echo "@@ begin $user $t"
		start=$(date +%s)
		# What a test leaves running may hold the pipe open: it is read for a
		# few seconds more.
		cat </run/output &
		reader=$!
		# In a child, which inherits no orphan: the end of one of this process's would
		# interrupt the opening of the pipe.
		(exec "$@" "/tests/$t.test -test.v=test2json -test.timeout=${TEST_TIMEOUT:-240s} ${TEST_RUN:+-test.run=$TEST_RUN} ${flag:+'$flag'}" >/run/output 2>&1)
		status=$?
		(sleep 5; kill $reader) 2>/dev/null &
		timer=$!
		wait $reader 2>/dev/null
		kill $timer 2>/dev/null
		echo
		echo "@@ end $status $(($(date +%s) - start))"
		[ $status = 0 ] || dmesg -c | tail -n 30
		cd /
	done <"/tests/list.$user"
}

if [ -n "$(option shell)" ]; then
	setsid cttyhack sh
	poweroff -f
fi
export CAISSON_BLOCKDEV=/dev/vda
run root sh -c
unset CAISSON_BLOCKDEV

if [ "$by.$mode" = onroot.v2 ]; then
	# Delegation as in the kernel's cgroup-v2.rst: the user owns the directory
	# and its three files, and already runs inside.
	for c in $(cat /sys/fs/cgroup/cgroup.controllers); do
		echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control || echo "@@ error controller $c"
	done
	export CAISSON_DELEGATED=/sys/fs/cgroup/delegated
	mkdir -p $CAISSON_DELEGATED/tests
	for d in $CAISSON_DELEGATED $CAISSON_DELEGATED/tests; do
		chown 1000:1000 $d $d/cgroup.procs $d/cgroup.threads $d/cgroup.subtree_control
	done
	run user sh -c 'echo $$ >/sys/fs/cgroup/delegated/tests/cgroup.procs; exec su user -c "$1"' sh
else
	run user su user -c
fi
echo "@@ done"
poweroff -f
