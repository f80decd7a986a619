// SPDX-License-Identifier: Apache-2.0
//
// container measures what the kernel alone costs of a whole container: it makes,
// runs and removes one after another, each with a root file system and a user
// namespace of its own, and prints the nanoseconds of each cycle as floor does.
//
//   make the cgroups and set cpu, memory and pids limits,
//   clone3 into the v2 cgroup, sharing memory, with seven new namespaces,
//   write "0" to the v1 tasks files, wait for the id maps,
//   assemble the root: an overlay whose upper layer is in memory; /proc, /sys,
//   /dev with six devices, pts, shm and mqueue; hide and guard paths; pivot_root,
//   loopback, session, descriptors, keyring, capabilities, no_new_privs, seccomp,
//   exec of a stub and of the program, wait, remove the cgroups.
//
//   container --root DIR --seccomp FILE --stub FILE [--masked PATH]... [--guarded PATH]...
//             [--name NAME] [--exec]
//
// It makes one cycle for each line on stdin. With --exec there is one container,
// in which /bin/sleep runs, and a cycle is to run PROGRAM, /bin/true, in it: born
// in its cgroups and pid namespace, it joins the others, and is dressed as the
// first process was. FILE is the filter, a sequence of struct sock_filter.
//
//   gcc -O2 -static -o container container.c

#include "cgroup.h"

#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

static const char *rootfs, *masked[32], *guarded[32];
static int masked_dir[32], nmasked, nguarded;
static struct sock_filter filter[4096];
static struct sock_fprog prog = { 0, filter };

static const struct device {
	const char *name, *path;
} devices[] = {
	{ "null", "/dev/null" }, { "zero", "/dev/zero" }, { "full", "/dev/full" },
	{ "random", "/dev/random" }, { "urandom", "/dev/urandom" }, { "tty", "/dev/tty" },
};
enum { DEVICES = sizeof devices / sizeof *devices };
static int device[DEVICES + 1]; // trees of what is bound; the last is /dev/null to hide files by

// What parent and child share.
static volatile uint32_t mapped, gone;
static volatile int failed; // the line where the child has failed
static char stack[64 << 10] __attribute__((aligned(16)));
static uint64_t empty_mask;
static int sleeper; // the first process is to sleep
static int stub, report_end; // what the child executes first, and where that would complain
static int joining; // the pidfd of the container to join, or -1

static const uint64_t kept_caps = 0xa80425fb; // the fourteen
static int last_cap;
static struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
static struct __user_cap_header_struct cap_head = { _LINUX_CAPABILITY_VERSION_3, 0 };
static struct __user_cap_data_struct cap_sets[2] = { { 0xa80425fb, 0xa80425fb, 0 } };

#define TRY(call) ({ long try_ = (call); if (try_ < 0) { failed = __LINE__; SYS(__NR_exit_group, 127, 0, 0, 0); } try_; })

enum { RDONLY = MOUNT_ATTR_RDONLY, NOSUID = MOUNT_ATTR_NOSUID, NODEV = MOUNT_ATTR_NODEV, NOEXEC = MOUNT_ATTR_NOEXEC };

static long inside(int root, const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS };
	return TRY(SYS(__NR_openat2, root, path, &how, sizeof how));
}

// attach mounts a tree at path.
static void attach(int root, const char *path, long tree)
{
	long at = inside(root, path);
	TRY(sys(__NR_move_mount, tree, (long)"", at, (long)"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH, 0));
	SYS(__NR_close, at, 0, 0, 0);
}

// attach_new mounts a tree at a path, and closes it; attach_made does so at a name that
// was just made.
static void attach_new(int root, const char *path, long tree)
{
	attach(root, path, tree);
	SYS(__NR_close, tree, 0, 0, 0);
}

static void attach_made(int dir, const char *name, long tree)
{
	TRY(sys(__NR_move_mount, tree, (long)"", dir, (long)name, MOVE_MOUNT_F_EMPTY_PATH, 0));
	SYS(__NR_close, tree, 0, 0, 0);
}

// again is one more mount of what is mounted already.
static long again(int tree)
{
	return TRY(SYS(__NR_open_tree, tree, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE, 0));
}

// below opens the directory of a path, until the path is in another.
static int below(int root, const char **path)
{
	static char open[64];
	static int dir;
	const char *name = *path ? strrchr(*path, '/') : NULL;
	int n = name ? name - *path : 0;
	if (open[0] && (!n || strlen(open) != n || memcmp(open, *path, n))) {
		SYS(__NR_close, dir, 0, 0, 0);
		open[0] = 0;
	}
	if (!n)
		return root;
	if (!open[0]) {
		memcpy(open, *path, n);
		open[n] = 0;
		dir = inside(root, open);
	}
	*path = name + 1;
	return dir;
}

// tree makes a file system; options are names and values, a value of "" is a flag.
static long tree(const char *type, const char *const *options, int attr)
{
	long fs = TRY(SYS(__NR_fsopen, type, FSOPEN_CLOEXEC, 0, 0));
	for (; *options; options += 2)
		if (options[1][0])
			TRY(sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, (long)options[0], (long)options[1], 0, 0));
		else
			TRY(sys(__NR_fsconfig, fs, FSCONFIG_SET_FLAG, (long)options[0], 0, 0, 0));
	TRY(sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0, 0));
	long mnt = TRY(SYS(__NR_fsmount, fs, FSMOUNT_CLOEXEC, attr, 0));
	SYS(__NR_close, fs, 0, 0, 0);
	return mnt;
}
#define TREE(type, attr, ...) tree(type, (const char *const[]){ __VA_ARGS__, NULL }, attr)

static long bound(const char *path)
{
	return TRY(SYS(__NR_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE, 0));
}

static long with(long tree, int attr)
{
	struct mount_attr set = { .attr_set = attr };
	TRY(sys(__NR_mount_setattr, tree, (long)"", AT_EMPTY_PATH | AT_RECURSIVE, (long)&set, sizeof set, 0));
	return tree;
}

// open_trees is done as who the caller is.
static int open_trees(void)
{
	int lower = TRY(SYS(__NR_openat, AT_FDCWD, rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
	for (int i = 0; i < DEVICES; i++)
		device[i] = bound(devices[i].path);
	device[DEVICES] = bound("/dev/null");
	return lower;
}

static int overlay(int lower)
{
	char to[64], options[256];
	long mem = TREE("tmpfs", NOSUID | NODEV, "mode", "700");
	TRY(sys(__NR_move_mount, mem, (long)"", AT_FDCWD, (long)"/", MOVE_MOUNT_F_EMPTY_PATH, 0));
	TRY(SYS(__NR_mkdirat, mem, "root", 0755, 0));
	TRY(SYS(__NR_mkdirat, mem, "upper", 0755, 0));
	TRY(SYS(__NR_mkdirat, mem, "work", 0755, 0));
	snprintf(to, sizeof to, "/proc/self/fd/%ld/root", mem);
	snprintf(options, sizeof options,
		 "lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%ld/upper,workdir=/proc/self/fd/%ld/work,userxattr", lower, mem, mem);
	TRY(sys(__NR_mount, (long)"overlay", (long)to, (long)"overlay", MS_NODEV, (long)options, 0));
	int root = TRY(SYS(__NR_openat, mem, "root", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
	SYS(__NR_close, mem, 0, 0, 0);
	return root;
}

static void fill(int root)
{
	const int quiet = NOSUID | NODEV | NOEXEC;
	SYS(__NR_mkdirat, root, "proc", 0555, 0); // most images have these three
	SYS(__NR_mkdirat, root, "sys", 0555, 0);
	SYS(__NR_mkdirat, root, "dev", 0555, 0);
	attach_new(root, "proc", TREE("proc", quiet, "source", "proc"));
	attach_new(root, "sys", TREE("sysfs", quiet | RDONLY, "source", "sysfs"));
	attach_new(root, "dev", TREE("tmpfs", quiet, "source", "dev", "mode", "755", "size", "64k"));
	long dev = inside(root, "dev");
	for (int i = 0; i < DEVICES; i++) {
		TRY(SYS(__NR_mknodat, dev, devices[i].name, S_IFREG | 0644, 0));
		attach_made(dev, devices[i].name, with(device[i], NOSUID | NOEXEC));
	}
	TRY(SYS(__NR_mkdirat, dev, "pts", 0755, 0));
	attach_made(dev, "pts", TREE("devpts", NOSUID | NOEXEC, "source", "devpts", "newinstance", "", "ptmxmode", "0666", "mode", "0620", "gid", "5"));
	TRY(SYS(__NR_mkdirat, dev, "shm", 0755, 0));
	attach_made(dev, "shm", TREE("tmpfs", quiet, "source", "shm", "mode", "1777", "size", "64m"));
	TRY(SYS(__NR_mkdirat, dev, "mqueue", 0755, 0));
	attach_made(dev, "mqueue", TREE("mqueue", quiet, "source", "mqueue"));
	TRY(SYS(__NR_symlinkat, "/proc/self/fd", dev, "fd", 0));
	TRY(SYS(__NR_symlinkat, "/proc/self/fd/0", dev, "stdin", 0));
	TRY(SYS(__NR_symlinkat, "/proc/self/fd/1", dev, "stdout", 0));
	TRY(SYS(__NR_symlinkat, "/proc/self/fd/2", dev, "stderr", 0));
	TRY(SYS(__NR_symlinkat, "pts/ptmx", dev, "ptmx", 0));
	SYS(__NR_close, dev, 0, 0, 0);
	const char *path;
	for (int i = 0; i < nguarded; i++) {
		path = guarded[i];
		int in = below(root, &path);
		long at = inside(in, path), same = again(at);
		with(same, quiet | RDONLY);
		TRY(sys(__NR_move_mount, same, (long)"", at, (long)"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH, 0));
		SYS(__NR_close, at, 0, 0, 0);
		SYS(__NR_close, same, 0, 0, 0);
	}
	int nothing = -1, empty = -1;
	for (int i = 0; i < nmasked; i++) {
		int *first = masked_dir[i] ? &empty : &nothing;
		path = masked[i];
		int in = below(root, &path);
		if (*first >= 0) {
			attach_new(in, path, again(*first));
			continue;
		}
		*first = masked_dir[i] ? TREE("tmpfs", quiet | RDONLY, "source", "masked", "size", "4k", "mode", "555") :
					 with(device[DEVICES], NOSUID | NOEXEC);
		attach(in, path, *first);
	}
	path = NULL;
	below(root, &path);
	if (nothing >= 0)
		SYS(__NR_close, nothing, 0, 0, 0);
	if (empty >= 0)
		SYS(__NR_close, empty, 0, 0, 0);
}

static void enter(int root)
{
	TRY(SYS(__NR_fchdir, root, 0, 0, 0));
	TRY(SYS(__NR_pivot_root, ".", ".", 0, 0));
	TRY(SYS(__NR_umount2, ".", MNT_DETACH, 0, 0)); // the old root
	TRY(SYS(__NR_umount2, ".", MNT_DETACH, 0, 0)); // the memory below the overlay
	TRY(SYS(__NR_chdir, "/", 0, 0, 0));
}

// dress is what both a first and a further process get.
static void dress(void)
{
	TRY(SYS(__NR_setsid, 0, 0, 0, 0));
	TRY(SYS(__NR_fcntl, 0, F_SETFD, 0, 0));
	TRY(SYS(__NR_dup3, 2, 1, 0, 0));
	TRY(SYS(__NR_fcntl, 2, F_SETFD, 0, 0));
	TRY(SYS(__NR_dup3, report_end, 3, 0, 0));
	TRY(SYS(__NR_dup3, stub, 4, O_CLOEXEC, 0));
	TRY(SYS(__NR_close_range, 5, ~0U, 0, 0));
	TRY(SYS(__NR_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0, 0, 0));
	for (int c = 0; c <= last_cap; c++)
		if (!(kept_caps >> c & 1))
			TRY(SYS(__NR_prctl, PR_CAPBSET_DROP, c, 0, 0));
	TRY(SYS(__NR_setgroups, 0, 0, 0, 0));
	TRY(SYS(__NR_setresgid, 0, 0, 0, 0));
	TRY(SYS(__NR_setresuid, 0, 0, 0, 0));
	TRY(SYS(__NR_chdir, "/", 0, 0, 0));
	TRY(SYS(__NR_capset, &cap_head, cap_sets, 0, 0));
	TRY(sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0));
	TRY(sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0));
	TRY(SYS(__NR_rt_sigprocmask, SIG_SETMASK, &empty_mask, 0, 8));
	TRY(SYS(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog, 0));
}

// child runs on a stack of its own.
static __attribute__((noreturn, noinline)) void child(void)
{
	static const char *const sleeps[] = { "/bin/sleep", "/bin/sleep", "1000000", NULL };
	const char *const runs[] = { program, program, NULL }, *const *argv = sleeper ? sleeps : runs;
	const char *const envp[] = { "PATH=/bin", NULL };
	for (int i = 0; i < nv1; i++)
		TRY(SYS(__NR_write, v1[i].tasks, "0", 1, 0));
	if (joining >= 0) {
		TRY(SYS(__NR_setns, joining, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP, 0, 0));
	} else {
		while (!mapped)
			SYS(__NR_futex, &mapped, FUTEX_WAIT_PRIVATE, 0, 0);
		TRY(sys(__NR_mount, 0, (long)"/", 0, MS_REC | MS_PRIVATE, 0, 0));
		int lower = open_trees();
		TRY(SYS(__NR_setresgid, 0, 0, 0, 0));
		TRY(SYS(__NR_setresuid, 0, 0, 0, 0));
		TRY(SYS(__NR_unshare, CLONE_NEWCGROUP, 0, 0, 0));
		TRY(SYS(__NR_sethostname, "floor", 5, 0, 0));
		SYS(__NR_umask, 0, 0, 0, 0);
		int root = overlay(lower);
		fill(root);
		enter(root);
		SYS(__NR_umask, 022, 0, 0, 0);
		long s = TRY(SYS(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0));
		TRY(SYS(__NR_ioctl, s, SIOCSIFFLAGS, &lo, 0));
		SYS(__NR_close, s, 0, 0, 0);
	}
	dress();
	TRY(sys(__NR_execveat, 4, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH, 0));
	__builtin_unreachable();
}

static struct clone_args args;
static long pid;
static int pidfd;

// start clones; the child has left our memory when it returns.
static void start(uint64_t flags, int unified)
{
	int report[2], err;
	if (pipe2(report, O_CLOEXEC) || (report_end = fcntl(report[1], F_DUPFD_CLOEXEC, 10)) < 0)
		die("pipe2");
	close(report[1]);
	mapped = failed = 0;
	gone = 1;
	args = (struct clone_args){ .flags = CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID | flags, .exit_signal = SIGCHLD,
				    .pidfd = (uintptr_t)&pidfd, .child_tid = (uintptr_t)&gone,
				    .stack = (uintptr_t)stack, .stack_size = sizeof stack };
	if (unified >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = unified;
	}
	long born = SYS(__NR_clone3, &args, sizeof args, 0, 0); // in a register, the child shares all else
	if (born == 0)
		child();
	if (born < 0) {
		errno = -born;
		die("clone3");
	}
	pid = born;
	if (flags & CLONE_NEWUSER) {
		write_map(pid, "uid_map");
		write_map(pid, "gid_map");
		mapped = 1;
		SYS(__NR_futex, &mapped, FUTEX_WAKE_PRIVATE, 1, 0);
	}
	while (gone) // not private: the kernel wakes it as a shared one
		SYS(__NR_futex, &gone, FUTEX_WAIT, 1, 0);
	if (failed) {
		fprintf(stderr, "container: the child failed in line %d\n", failed);
		exit(1);
	}
	close(report_end);
	if (read(report[0], &err, sizeof err) != 0)
		die("exec");
	close(report[0]);
}

// hold takes a program into a sealed memory file.
static int hold(const char *path)
{
	static char text[64 << 10];
	char self[64];
	int file = open(path, O_RDONLY | O_CLOEXEC), fd = memfd_create("stub", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t n = file < 0 ? -1 : read(file, text, sizeof text);
	if (n <= 0 || fd < 0 || write(fd, text, n) != n ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		die(path);
	close(file);
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	int held = open(self, O_RDONLY | O_CLOEXEC); // what is open for writing cannot be executed
	close(fd);
	return fcntl(held, F_DUPFD_CLOEXEC, 10);
}

static const uint64_t all_new = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWUSER;

static int dirs[MAX], unified = -1;

static void create(void)
{
	for (int i = 0; i < nv1; i++)
		dirs[i] = make(&v1[i], 0);
	unified = have_v2 ? make(&v2, 1) : -1;
}

static void finish(void)
{
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "container: status %#x\n", status);
		exit(1);
	}
	close(pidfd);
}

static void cycle(void)
{
	now(0);
	create();
	now(1);
	start(all_new, unified);
	now(2);
	for (int i = 0; i < nv1; i++) {
		close(v1[i].tasks);
		close(dirs[i]);
	}
	if (unified >= 0)
		close(unified);
	finish();
	now(3);
	remove_groups();
	now(4);
	report();
}

// An exec opens what it needs each time, as whoever manages many containers.
static void exec_cycle(int self)
{
	now(0);
	for (int i = 0; i < nv1; i++)
		if ((v1[i].tasks = openat(dirs[i], "tasks", O_WRONLY | O_CLOEXEC)) < 0)
			die("tasks");
	now(1);
	if (SYS(__NR_setns, joining, CLONE_NEWPID, 0, 0))
		die("setns");
	start(CLONE_VFORK, unified);
	if (SYS(__NR_setns, self, CLONE_NEWPID, 0, 0))
		die("setns");
	now(2);
	for (int i = 0; i < nv1; i++)
		close(v1[i].tasks);
	finish();
	now(3);
	now(4);
	report();
}

static void bye(void) // the sleeper, and then its groups
{
	if (joining < 0)
		return;
	SYS(__NR_pidfd_send_signal, joining, SIGKILL, 0, 0);
	waitid(P_PIDFD, joining, &(siginfo_t){ 0 }, WEXITED);
}

int main(int argc, char **argv)
{
	int exec = 0;
	joining = -1;
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		if (!strcmp(a, "--root")) {
			rootfs = value(argc, argv, &i);
		} else if (!strcmp(a, "--seccomp")) {
			int fd = open(value(argc, argv, &i), O_RDONLY | O_CLOEXEC);
			ssize_t n = fd < 0 ? -1 : read(fd, filter, sizeof filter);
			if (n <= 0)
				die("the filter");
			prog.len = n / sizeof *filter;
			close(fd);
		} else if (!strcmp(a, "--stub")) {
			stub = hold(value(argc, argv, &i));
		} else if (!strcmp(a, "--masked") && nmasked < 32) {
			struct stat st;
			const char *path = value(argc, argv, &i);
			if (stat(path, &st))
				continue;
			masked_dir[nmasked] = S_ISDIR(st.st_mode);
			masked[nmasked++] = path + 1;
		} else if (!strcmp(a, "--guarded") && nguarded < 32) {
			const char *path = value(argc, argv, &i);
			if (!access(path, F_OK))
				guarded[nguarded++] = path + 1;
		} else if (!strcmp(a, "--name")) {
			name = value(argc, argv, &i);
		} else if (!strcmp(a, "--exec")) {
			exec = 1;
		} else {
			fprintf(stderr, "container: unknown option %s\n", a);
			return 2;
		}
	}
	if (!rootfs || !prog.len || !stub) {
		fprintf(stderr, "container: --root, --seccomp and --stub are needed\n");
		return 2;
	}
	layout();
	open_roots();
	atexit(tidy);
	atexit(bye);
	while (prctl(PR_CAPBSET_READ, last_cap + 1, 0, 0, 0) >= 0)
		last_cap++;
	int self = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (exec) {
		sleeper = 1;
		create();
		start(all_new, unified);
		for (int i = 0; i < nv1; i++)
			close(v1[i].tasks);
		sleeper = 0;
		joining = pidfd;
	}
	char line[8];
	while (fgets(line, sizeof line, stdin))
		if (exec)
			exec_cycle(self);
		else
			cycle();
	return 0;
}
