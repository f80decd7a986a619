// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

#define SYS_prlimit64 302
#define RLIMIT_NOFILE 7

// func getrlimit(l *rlimit) int
TEXT ·getrlimit(SB), NOSPLIT, $0-16
	MOVQ	$SYS_prlimit64, AX
	XORL	DI, DI
	MOVQ	$RLIMIT_NOFILE, SI
	XORL	DX, DX
	MOVQ	l+0(FP), R10
	SYSCALL
	MOVQ	AX, ret+8(FP)
	RET
