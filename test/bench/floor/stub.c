// SPDX-License-Identifier: Apache-2.0
//
// stub is what the child of container executes first, as Caisson's does: a program
// that is looked up must not find its parent's binary in /proc/self/exe. It executes
// its first argument with the others, and has descriptor 3 closed by that, or writes
// the errno there.
//
//   gcc -O2 -static -nostdlib -o stub stub.c

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "sys.h"

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl run\n");
#endif

__attribute__((noreturn)) void run(long *top);

void run(long *top)
{
	char **argv = (char **)(top + 1), **envp = argv + *top + 1;
	SYS(__NR_fcntl, 3, F_SETFD, FD_CLOEXEC, 0);
	int err = -SYS(__NR_execve, argv[0], argv + 1, envp, 0);
	SYS(__NR_write, 3, &err, sizeof err, 0);
	SYS(__NR_exit_group, 127, 0, 0, 0);
	__builtin_unreachable();
}
