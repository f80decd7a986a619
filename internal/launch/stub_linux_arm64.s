// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

#define SYS_fcntl           25
#define SYS_write           64
#define SYS_exit_group      94
#define SYS_kill            129
#define SYS_prctl           167
#define SYS_rt_sigprocmask  135
#define SYS_rt_sigtimedwait 137
#define SYS_clone           220
#define SYS_execve          221
#define SYS_wait4           260
#define SYS_close_range     436
#define SIGCHLD             17

// The program of the stub, see stub.go and stub_linux_amd64.s.
//
// R19 is the stack as exec left it, R20 the report's descriptor, R21 the path, R22
// argv, R23 envp; of a reaper R24 is the pid that it waits for, and R25 the
// memory below the stack.
TEXT ·stub(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	RSP, R19
	SUB	$160, R19, R25
	MOVD	R25, RSP
	MOVD	8(R19), R1
	MOVD	16(R19), R21
	ADD	$24, R19, R22
	MOVD	(R19), R0
	ADD	R0<<3, R19, R23
	ADD	$16, R23
	MOVBU	(R1), R26

	MOVD	$0, R20
	MOVD	$10, R2
digit:
	ADD	$1, R1
	MOVBU	(R1), R0
	CBZ	R0, parsed
	MUL	R2, R20, R20
	ADD	R0, R20
	SUB	$48, R20
	B	digit
parsed:
	MOVD	R20, R0
	MOVD	$2, R1 // F_SETFD
	MOVD	$1, R2 // FD_CLOEXEC
	MOVD	$SYS_fcntl, R8
	SVC
	CMP	$69, R26 // 'E'
	BEQ	exec
	CMP	$82, R26 // 'R'
	BEQ	reaper
	CMP	$88, R26 // 'X'
	BEQ	reaper
	MOVD	$127, R0 // executed by way of /proc/self/exe
	B	exit

reaper:
	MOVD	$-1, R0
	MOVD	R0, (R25)
	MOVD	$2, R0 // SIG_SETMASK
	MOVD	R25, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC
	MOVD	$SIGCHLD, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$SYS_clone, R8
	SVC
	TBNZ	$63, R0, failed
	CBNZ	R0, reap

	MOVD	ZR, (R25)
	MOVD	$2, R0
	MOVD	R25, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC
	MOVD	$1, R0 // PR_SET_PDEATHSIG
	MOVD	$9, R1
	MOVD	$SYS_prctl, R8
	SVC
exec:
	MOVD	R21, R0
	MOVD	R22, R1
	MOVD	R23, R2
	MOVD	$SYS_execve, R8
	SVC
failed:
	NEG	R0, R0
	MOVW	R0, (R25)
	MOVD	R20, R0
	MOVD	R25, R1
	MOVD	$4, R2
	MOVD	$SYS_write, R8
	SVC
	MOVD	$127, R0
	B	exit

reap:
	MOVD	R0, R24
	MOVD	$0, R0
	MOVD	$0xffffffff, R1
	MOVD	$0, R2
	MOVD	$SYS_close_range, R8
	SVC
next:
	MOVD	R25, R0
	ADD	$8, R25, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigtimedwait, R8
	SVC
	CMP	$SIGCHLD, R0
	BEQ	wait
	CMP	$0, R0
	BLE	next
	MOVW	16(R25), R2 // si_code
	CMP	$0, R2
	BGT	next
	CMP	$64, R0
	BNE	pass
	CMP	$88, R26
	BNE	pass
	MOVD	$9, R0
pass:
	MOVD	R0, R1
	MOVD	R24, R0
	MOVD	$SYS_kill, R8
	SVC
	B	next
wait:
	MOVD	$-1, R0
	ADD	$144, R25, R1
	MOVD	$0x40000001, R2 // __WALL|WNOHANG
	MOVD	$0, R3
	MOVD	$SYS_wait4, R8
	SVC
	CMP	$0, R0
	BLE	next
	CMP	R0, R24
	BNE	wait
	MOVWU	144(R25), R1
	AND	$127, R1, R0
	CBZ	R0, exited
	ADD	$128, R0
	B	exit
exited:
	LSR	$8, R1, R0
	AND	$255, R0
exit:
	MOVD	$SYS_exit_group, R8
	SVC
	B	exit
	WORD	$0xde7ec7ed // stubMark
	WORD	$0x5afe57b0

// func stubAt() *byte
TEXT ·stubAt(SB), NOSPLIT, $0-8
	MOVD	$·stub(SB), R0
	MOVD	R0, ret+0(FP)
	RET
