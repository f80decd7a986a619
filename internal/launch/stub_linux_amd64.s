// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

#define SYS_write           1
#define SYS_rt_sigprocmask  14
#define SYS_clone           56
#define SYS_execve          59
#define SYS_wait4           61
#define SYS_kill            62
#define SYS_fcntl           72
#define SYS_rt_sigtimedwait 128
#define SYS_prctl           157
#define SYS_exit_group      231
#define SYS_close_range     436
#define SIGCHLD             17

// The program of the stub, see stub.go. It runs with its own memory and stack,
// without a Go runtime, from wherever it is loaded.
//
// R12 is the stack as exec left it, R13 the report's descriptor, R14 the path,
// R15 argv, R9 envp; of a reaper BX is the pid that it waits for. 160 bytes below
// R12 are a signal set, a siginfo, a status, and how it was called.
TEXT ·stub(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ	SP, R12
	SUBQ	$160, SP
	MOVQ	8(R12), SI
	MOVQ	16(R12), R14
	LEAQ	24(R12), R15
	MOVQ	(R12), AX
	LEAQ	16(R12)(AX*8), R9
	MOVBLZX	(SI), R8

	XORL	R13, R13
digit:
	INCQ	SI
	MOVBLZX	(SI), AX
	TESTL	AX, AX
	JZ	parsed
	IMULQ	$10, R13
	LEAQ	-48(R13)(AX*1), R13
	JMP	digit
parsed:
	MOVQ	$SYS_fcntl, AX
	MOVQ	R13, DI
	MOVQ	$2, SI // F_SETFD
	MOVQ	$1, DX // FD_CLOEXEC
	SYSCALL
	CMPL	R8, $69 // 'E'
	JEQ	exec
	CMPL	R8, $82 // 'R'
	JEQ	reaper
	CMPL	R8, $88 // 'X'
	JEQ	reaper
	MOVQ	$127, DI // executed by way of /proc/self/exe
	JMP	exit

reaper:
	MOVQ	R8, 152(SP)
	MOVQ	$-1, AX
	MOVQ	AX, (SP)
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$2, DI // SIG_SETMASK
	MOVQ	SP, SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL
	MOVQ	$SYS_clone, AX
	MOVQ	$SIGCHLD, DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JS	failed
	JNZ	reap

	MOVQ	$0, (SP)
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$2, DI
	MOVQ	SP, SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL
	MOVQ	$SYS_prctl, AX
	MOVQ	$1, DI // PR_SET_PDEATHSIG
	MOVQ	$9, SI
	SYSCALL
exec:
	MOVQ	$SYS_execve, AX
	MOVQ	R14, DI
	MOVQ	R15, SI
	MOVQ	R9, DX
	SYSCALL
failed:
	NEGQ	AX
	MOVL	AX, (SP)
	MOVQ	$SYS_write, AX
	MOVQ	R13, DI
	MOVQ	SP, SI
	MOVQ	$4, DX
	SYSCALL
	MOVQ	$127, DI
	JMP	exit

reap:
	MOVQ	AX, BX
	MOVQ	$SYS_close_range, AX
	XORL	DI, DI
	MOVL	$-1, SI
	XORL	DX, DX
	SYSCALL
next:
	MOVQ	$SYS_rt_sigtimedwait, AX
	MOVQ	SP, DI
	LEAQ	8(SP), SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL
	CMPQ	AX, $SIGCHLD
	JEQ	wait
	TESTQ	AX, AX
	JLE	next
	// What the kernel sends, a terminal's interrupt above all, the other process
	// gets itself.
	MOVL	16(SP), CX // si_code
	TESTL	CX, CX
	JG	next
	CMPQ	AX, $64
	JNE	pass
	CMPQ	152(SP), $88
	JNE	pass
	MOVQ	$9, AX
pass:
	MOVQ	AX, SI
	MOVQ	$SYS_kill, AX
	MOVQ	BX, DI
	SYSCALL
	JMP	next
wait:
	MOVQ	$SYS_wait4, AX
	MOVQ	$-1, DI
	LEAQ	144(SP), SI
	MOVQ	$0x40000001, DX // __WALL|WNOHANG
	XORL	R10, R10
	SYSCALL
	TESTQ	AX, AX
	JLE	next
	CMPQ	AX, BX
	JNE	wait
	MOVL	144(SP), AX
	MOVL	AX, DI
	ANDL	$127, DI
	JZ	exited
	ADDL	$128, DI
	JMP	exit
exited:
	SHRL	$8, AX
	MOVL	AX, DI
	ANDL	$255, DI
exit:
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	JMP	exit
	QUAD	$0x5afe57b0de7ec7ed // stubMark

// func stubAt() *byte
TEXT ·stubAt(SB), NOSPLIT, $0-8
	LEAQ	·stub(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
