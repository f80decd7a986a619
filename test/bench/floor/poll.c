// SPDX-License-Identifier: Apache-2.0
//
// poll waits as plainly as can be: for each pid that it reads, it says that it
// waits for the process's end and, once poll(2) has told of it, when that was: in
// nanoseconds of CLOCK_MONOTONIC.
//
//   gcc -O2 -static -o poll poll.c

#include <poll.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	int pid;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (scanf("%d", &pid) == 1) {
		struct timespec now;
		struct pollfd p = { .fd = syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
		puts("waiting");
		if (p.fd < 0 || poll(&p, 1, -1) != 1) {
			perror("poll");
			return 1;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		close(p.fd);
		printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
	}
	return 0;
}
