// SPDX-License-Identifier: Apache-2.0
//
// What the floors have in common: cgroups, id maps, the time.

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

#include "sys.h"

enum { MAX = 16 };
struct hierarchy {
	char path[256];
	int root, tasks, cpu, memory, pids, cpuset;
};
static struct hierarchy v1[MAX], v2;
static int nv1, have_v2, v1_none, v2_none;
static int plain, all;
static char cpus[256], mems[256]; // what a new v1 cpuset gets
static const char *name = "caisson-floor";
static const char *program = "/bin/true";

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
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

// write_map fills a new user namespace.
static void write_map(long pid, const char *file)
{
	char p[64];
	snprintf(p, sizeof p, "/proc/%ld/%s", pid, file);
	put(AT_FDCWD, p, "0 0 65536\n");
}

static struct timespec when[5]; // begin, created, started, ended, removed

static void now(int i) { clock_gettime(CLOCK_MONOTONIC, &when[i]); }

static long long since(int i, int j)
{
	return (when[j].tv_sec - when[i].tv_sec) * 1000000000LL + (when[j].tv_nsec - when[i].tv_nsec);
}

static void report(void)
{
	printf("%lld %lld %lld %lld %lld\n", since(0, 4), since(0, 1), since(1, 2), since(2, 3), since(3, 4));
	fflush(stdout);
}

static void remove_groups(void)
{
	for (int i = 0; i < nv1; i++)
		if (unlinkat(v1[i].root, name, AT_REMOVEDIR))
			die("rmdir");
	if (have_v2 && unlinkat(v2.root, name, AT_REMOVEDIR))
		die("rmdir");
}

// tidy removes what a cycle that failed has left.
static void tidy(void)
{
	for (int i = 0; !plain && i < nv1; i++)
		unlinkat(v1[i].root, name, AT_REMOVEDIR);
	if (!plain && have_v2)
		unlinkat(v2.root, name, AT_REMOVEDIR);
}

static const char *value(int argc, char **argv, int *i)
{
	if (*i + 1 >= argc) {
		fprintf(stderr, "%s needs a value\n", argv[*i]);
		exit(2);
	}
	return argv[++*i];
}
