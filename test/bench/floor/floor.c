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

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/if.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// A system call without a stack frame of its own: the vfork child runs on its
// parent's stack and must not return from any function.
static inline __attribute__((always_inline)) long
sys(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
		      x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "only x86_64 and aarch64"
#endif
}
#define SYS(nr, a, b, c, d) sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

enum { MAX = 16 };
struct hierarchy {
	char path[256];
	int root, tasks, cpu, memory, pids, cpuset;
};
static struct hierarchy v1[MAX], v2;
static int nv1, have_v2, v1_none, v2_none;
static int plain, userns, same, all;
static char cpus[256], mems[256]; // what a new v1 cpuset gets
static const char *name = "caisson-floor";
static const char *program = "/bin/true";

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int has(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',' || p[n] == '\n'))
			return 1;
	return 0;
}

static void layout(void)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096], point[256], type[64], opts[1024];
	if (!f)
		die("/proc/self/mountinfo");
	int look1 = !nv1 && !v1_none, look2 = !have_v2 && !v2_none;
	while (fgets(line, sizeof line, f)) {
		char *rest = strstr(line, " - ");
		if (!rest || sscanf(line, "%*d %*d %*s %*s %255s", point) != 1 ||
		    sscanf(rest, " - %63s %*s %1023s", type, opts) != 2)
			continue;
		if (look2 && !strcmp(type, "cgroup2")) {
			strcpy(v2.path, point);
			have_v2 = 1;
			look2 = 0;
		}
		if (look1 && !strcmp(type, "cgroup") && nv1 < MAX &&
		    (has(opts, "cpu") || has(opts, "memory") || has(opts, "pids") ||
		     (all && !has(opts, "freezer") && !strstr(opts, "name="))))
			strcpy(v1[nv1++].path, point);
	}
	fclose(f);
}

static void get(int dir, const char *file, char *buf, size_t size)
{
	int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, buf, size - 1) <= 0)
		die(file);
	close(fd);
}

static void open_roots(void)
{
	char p[512];
	for (int i = -1; i < nv1; i++) {
		struct hierarchy *h = i < 0 ? &v2 : &v1[i];
		if (i < 0 && !have_v2)
			continue;
		h->root = open(h->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (h->root < 0)
			die(h->path);
		if (i < 0) {
			int c = openat(h->root, "cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
			const char *want[] = { "+cpu", "+memory", "+pids" };
			for (int k = 0; k < 3 && c >= 0; k++)
				if (write(c, want[k], strlen(want[k])) < 0) {
					/* that controller is on v1, or not there */
				}
			close(c);
		}
		// What files a cgroup here has is found out once.
		mkdirat(h->root, name, 0755);
		const char *cpu = i < 0 ? "cpu.max" : "cpu.cfs_quota_us";
		const char *mem = i < 0 ? "memory.max" : "memory.limit_in_bytes";
		snprintf(p, sizeof p, "%s/%s", name, cpu), h->cpu = !faccessat(h->root, p, F_OK, 0);
		snprintf(p, sizeof p, "%s/%s", name, mem), h->memory = !faccessat(h->root, p, F_OK, 0);
		snprintf(p, sizeof p, "%s/pids.max", name), h->pids = !faccessat(h->root, p, F_OK, 0);
		unlinkat(h->root, name, AT_REMOVEDIR);
		if (i >= 0 && !faccessat(h->root, "cpuset.mems", F_OK, 0)) {
			h->cpuset = 1;
			get(h->root, "cpuset.cpus", cpus, sizeof cpus);
			get(h->root, "cpuset.mems", mems, sizeof mems);
		}
	}
}

static void put(int dir, const char *file, const char *value)
{
	int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		die(file);
	close(fd);
}

// make makes the cgroup in one hierarchy and returns its directory.
static int make(struct hierarchy *h, int unified)
{
	if (mkdirat(h->root, name, 0755))
		die("mkdir");
	int dir = openat(h->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		die(name);
	if (h->cpu)
		put(dir, unified ? "cpu.max" : "cpu.cfs_quota_us", unified ? "50000 100000" : "50000");
	if (h->memory)
		put(dir, unified ? "memory.max" : "memory.limit_in_bytes", "268435456");
	if (h->pids)
		put(dir, "pids.max", "64");
	if (h->cpuset) {
		put(dir, "cpuset.cpus", cpus);
		put(dir, "cpuset.mems", mems);
	}
	if (!unified && (h->tasks = openat(dir, "tasks", O_WRONLY | O_CLOEXEC)) < 0)
		die("tasks");
	return dir;
}

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
	char p[64];
	snprintf(p, sizeof p, "/proc/%ld/uid_map", pid);
	put(AT_FDCWD, p, "0 0 65536\n");
	snprintf(p, sizeof p, "/proc/%ld/gid_map", pid);
	put(AT_FDCWD, p, "0 0 65536\n");
	mapped = 1;
	SYS(__NR_futex, &mapped, FUTEX_WAKE_PRIVATE, 1, 0);
}

static struct timespec when[5]; // begin, created, started, ended, removed

static void now(int i) { clock_gettime(CLOCK_MONOTONIC, &when[i]); }

static long long since(int i, int j)
{
	return (when[j].tv_sec - when[i].tv_sec) * 1000000000LL + (when[j].tv_nsec - when[i].tv_nsec);
}

// tidy removes what a cycle that failed has left.
static void tidy(void)
{
	for (int i = 0; !plain && i < nv1; i++)
		unlinkat(v1[i].root, name, AT_REMOVEDIR);
	if (!plain && have_v2)
		unlinkat(v2.root, name, AT_REMOVEDIR);
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
	for (int i = 0; i < nv1; i++)
		if (unlinkat(v1[i].root, name, AT_REMOVEDIR))
			die("rmdir");
	if (have_v2 && unlinkat(v2.root, name, AT_REMOVEDIR))
		die("rmdir");
	now(4);
	printf("%lld %lld %lld %lld %lld\n", since(0, 4), since(0, 1), since(1, 2), since(2, 3), since(3, 4));
	fflush(stdout);
}

static const char *value(int argc, char **argv, int *i)
{
	if (*i + 1 >= argc) {
		fprintf(stderr, "floor: %s needs a value\n", argv[*i]);
		exit(2);
	}
	return argv[++*i];
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
