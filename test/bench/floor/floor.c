// SPDX-License-Identifier: Apache-2.0
//
// floor measures what the kernel alone costs: it makes, runs and removes one
// sandbox after another by the shortest known sequence of system calls, and
// prints the nanoseconds of each cycle, a line each: the whole, and its parts
// create, start, wait and remove.
//
//   make the cgroups and set cpu, memory and pids limits,
//   clone3 into the v2 cgroup, sharing memory, with five new namespaces,
//   write "0" to the v1 tasks files, make mounts private, mount /proc, exec,
//   wait, remove the cgroups.
//
//   floor [-n N | --serve] [--plain] [--userns] [--same] [--all] [--heap MIB]
//         [--name NAME] [--v1 DIR]... [--v2 DIR] [PROGRAM]
//
// With --same the child also does what else a sandbox of Caisson's defaults is
// given: a hostname, a loopback device that is up, a session, descriptors 0 to
// 2, the fourteen usual capabilities, an identity and no_new_privs.
// With --serve it makes one cycle for each line on stdin, with a user namespace
// if the line is "1".
//
// Which hierarchies to use is read from /proc/self/mountinfo: those with cpu,
// memory and pids, and the cgroup2 one; with --all every v1 one that has a
// controller other than the freezer. --v1 and --v2 name others instead, and
// --v2 none, --v1 none leave one kind out. --plain makes neither cgroups nor
// namespaces. PROGRAM is /bin/true.
//
//   gcc -O2 -static -o floor floor.c

#include "cgroup.h"

static int userns, same;

// What parent and child share besides.
static volatile uint32_t mapped, gone;
static char stack[4096] __attribute__((aligned(16)));
static uint64_t empty_mask;

// What the child of --same needs, made beforehand.
static const uint64_t kept_caps = 0xa80425fb; // the fourteen
static int last_cap;
static struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
static struct __user_cap_header_struct cap_head = { _LINUX_CAPABILITY_VERSION_3, 0 };
static struct __user_cap_data_struct cap_sets[2] = { { 0xa80425fb, 0xa80425fb, 0 } };

// dress is what --same adds before the descriptors are closed.
static inline __attribute__((always_inline)) long dress(void)
{
	long s, bad = SYS(__NR_sethostname, "floor", 5, 0, 0);
	bad |= s = SYS(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0);
	bad |= SYS(__NR_ioctl, s, SIOCSIFFLAGS, &lo, 0);
	bad |= SYS(__NR_close, s, 0, 0, 0);
	bad |= SYS(__NR_setsid, 0, 0, 0, 0);
	bad |= SYS(__NR_fcntl, 0, F_SETFD, 0, 0);
	bad |= SYS(__NR_dup3, 2, 1, 0, 0);
	bad |= SYS(__NR_fcntl, 2, F_SETFD, 0, 0);
	for (int c = 0; c <= last_cap; c++)
		if (!(kept_caps >> c & 1))
			bad |= SYS(__NR_prctl, PR_CAPBSET_DROP, c, 0, 0);
	bad |= SYS(__NR_setgroups, 0, 0, 0, 0);
	bad |= SYS(__NR_setresgid, 0, 0, 0, 0);
	bad |= SYS(__NR_setresuid, 0, 0, 0, 0);
	bad |= SYS(__NR_chdir, "/", 0, 0, 0);
	bad |= SYS(__NR_capset, &cap_head, cap_sets, 0, 0);
	bad |= sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0);
	bad |= sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	return bad;
}

static __attribute__((noreturn)) void child(void)
{
	char *argv[] = { (char *)program, NULL }, *envp[] = { NULL };
	for (int i = 0; i < nv1; i++)
		if (SYS(__NR_write, v1[i].tasks, "0", 1, 0) < 0)
			goto fail;
	if (userns) {
		while (!mapped)
			SYS(__NR_futex, &mapped, FUTEX_WAIT_PRIVATE, 0, 0);
		if (SYS(__NR_setresgid, 0, 0, 0, 0) < 0 || SYS(__NR_setresuid, 0, 0, 0, 0) < 0)
			goto fail;
	}
	if (!plain) {
		if (sys(__NR_mount, 0, (long)"/", 0, MS_REC | MS_PRIVATE, 0, 0) < 0 ||
		    sys(__NR_mount, (long)"proc", (long)"/proc", (long)"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0, 0) < 0)
			goto fail;
	}
	if (same && dress() < 0)
		goto fail;
	SYS(__NR_close_range, 3, ~0U, 0, 0);
	SYS(__NR_rt_sigprocmask, SIG_SETMASK, &empty_mask, 0, 8);
	SYS(__NR_execve, program, argv, envp, 0);
fail:
	SYS(__NR_exit_group, 127, 0, 0, 0);
	__builtin_unreachable();
}

static void write_maps(long pid)
{
	write_map(pid, "uid_map");
	write_map(pid, "gid_map");
	mapped = 1;
	SYS(__NR_futex, &mapped, FUTEX_WAKE_PRIVATE, 1, 0);
}

static void cycle(void)
{
	now(0);
	int dirs[MAX], unified = -1, status;
	if (!plain) {
		for (int i = 0; i < nv1; i++)
			dirs[i] = make(&v1[i], 0);
		if (have_v2)
			unified = make(&v2, 1);
	}
	now(1);
	struct clone_args args = { .flags = CLONE_VM, .exit_signal = SIGCHLD };
	if (!plain)
		args.flags |= CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
	if (unified >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = unified;
	}
	long pid;
	if (userns) {
		// The parent has to run while the child waits for its maps.
		mapped = 0;
		gone = 1;
		args.flags |= CLONE_NEWUSER | CLONE_CHILD_CLEARTID;
		args.child_tid = (uintptr_t)&gone;
		args.stack = (uintptr_t)stack;
		args.stack_size = sizeof stack;
	} else {
		args.flags |= CLONE_VFORK;
	}
	pid = SYS(__NR_clone3, &args, sizeof args, 0, 0);
	if (pid == 0)
		child();
	if (pid < 0) {
		errno = -pid;
		die("clone3");
	}
	if (userns) {
		write_maps(pid);
		while (gone) // not private: the kernel wakes it as a shared one
			SYS(__NR_futex, &gone, FUTEX_WAIT, 1, 0);
	}
	now(2);
	for (int i = 0; !plain && i < nv1; i++) {
		close(v1[i].tasks);
		close(dirs[i]);
	}
	if (unified >= 0)
		close(unified);
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		errno = ECHILD;
		fprintf(stderr, "floor: status %#x\n", status);
		die("wait");
	}
	now(3);
	remove_groups();
	now(4);
	report();
}

int main(int argc, char **argv)
{
	long n = 100, heap = 0;
	int serve = 0;
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		if (!strcmp(a, "-n")) {
			n = atol(value(argc, argv, &i));
		} else if (!strcmp(a, "--heap")) {
			heap = atol(value(argc, argv, &i));
		} else if (!strcmp(a, "--plain")) {
			plain = 1;
		} else if (!strcmp(a, "--userns")) {
			userns = 1;
		} else if (!strcmp(a, "--same")) {
			same = 1;
		} else if (!strcmp(a, "--all")) {
			all = 1;
		} else if (!strcmp(a, "--serve")) {
			serve = 1;
		} else if (!strcmp(a, "--name")) {
			name = value(argc, argv, &i);
		} else if (!strcmp(a, "--v1")) {
			const char *d = value(argc, argv, &i);
			if (!strcmp(d, "none"))
				v1_none = 1;
			else if (nv1 < MAX)
				snprintf(v1[nv1++].path, sizeof v1[0].path, "%s", d);
		} else if (!strcmp(a, "--v2")) {
			const char *d = value(argc, argv, &i);
			v2_none = !strcmp(d, "none");
			have_v2 = !v2_none;
			snprintf(v2.path, sizeof v2.path, "%s", d);
		} else if (a[0] == '-') {
			fprintf(stderr, "floor: unknown option %s\n", a);
			return 2;
		} else {
			program = a;
		}
	}
	if (plain) {
		userns = 0;
	} else {
		layout();
		open_roots();
	}
	if (plain)
		nv1 = have_v2 = 0;
	atexit(tidy);
	while (prctl(PR_CAPBSET_READ, last_cap + 1, 0, 0, 0) >= 0)
		last_cap++;
	if (heap > 0) {
		char *m = malloc(heap << 20);
		if (!m)
			die("heap");
		memset(m, 1, heap << 20);
	}
	char line[8];
	while (serve && fgets(line, sizeof line, stdin)) {
		userns = line[0] == '1';
		cycle();
	}
	for (long i = 0; !serve && i < n; i++)
		cycle();
	return 0;
}
