// SPDX-License-Identifier: Apache-2.0

#include "go_asm.h"
#include "textflag.h"

#define SYS_exit_group     94
#define SYS_rt_sigprocmask 135
#define SYS_clone3         435
#define SIG_SETMASK        2
#define EAGAIN             11
#define CLONE_ARGS_SIZE    88

// func clone(h *header) (errno uintptr)
//
// R19 is the header throughout. In the child R20 is the step and R21 its index;
// the stack, the TLS and g belong to the parent and are not touched.
TEXT ·clone(SB), NOSPLIT, $0-16
	MOVD	h+0(FP), R19

	MOVD	$SYS_rt_sigprocmask, R8
	MOVD	$SIG_SETMASK, R0
	ADD	$header_all, R19, R1
	ADD	$header_mask, R19, R2
	MOVD	$8, R3
	SVC

	MOVD	$SYS_clone3, R8
	ADD	$header_clone, R19, R0
	MOVD	$CLONE_ARGS_SIZE, R1
	SVC
	CBZ	R0, child
	MOVD	R0, R21

	MOVD	$SYS_rt_sigprocmask, R8
	MOVD	$SIG_SETMASK, R0
	ADD	$header_mask, R19, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	SVC

	CMP	$0, R21
	BLT	refusedclone
	MOVD	ZR, errno+8(FP)
	RET
refusedclone:
	NEG	R21, R21
	MOVD	R21, errno+8(FP)
	RET

child:
	ADD	$header__size, R19, R20
	MOVD	$1, R21

run:
	MOVW	R21, header_index(R19)
again:
	MOVWU	header_abort(R19), R9
	CBNZ	R9, exit
	MOVD	step_nr(R20), R8
	MOVD	(step_args+0)(R20), R0
	MOVD	(step_args+8)(R20), R1
	MOVD	(step_args+16)(R20), R2
	MOVD	(step_args+24)(R20), R3
	MOVD	(step_args+32)(R20), R4
	MOVD	(step_args+40)(R20), R5
	SVC

	// A wait is over when its word is set, whatever the call says.
	MOVWU	step_flags(R20), R9
	TSTW	$const_flagWait, R9
	BEQ	result
	MOVD	(step_args+0)(R20), R10
	MOVWU	(R10), R10
	CBZ	R10, again
	B	next

result:
	CMN	$4095, R0
	BHS	refused

	MOVWU	step_want(R20), R10
	CBNZ	R10, unwanted
	TSTW	$const_flagWrite, R9
	BEQ	store
	MOVD	(step_args+16)(R20), R10
	CMP	R10, R0
	BNE	unwanted
store:
	MOVD	step_outs(R20), R11
	CBZ	R11, next
each:
	MOVD	(R11), R10
	CBZ	R10, next
	MOVD	R0, (R10)
	ADD	$8, R11, R11
	B	each
next:
	ADD	$step__size, R20, R20
	ADD	$1, R21, R21
	B	run

unwanted:
	ORRW	$const_unwanted, R0, R0
	B	failed
refused:
	NEGW	R0, R0
	MOVWU	step_want(R20), R10
	CMPW	R10, R0
	BEQ	next
	CMPW	$EAGAIN, R0
	BNE	failed
	MOVWU	step_tries(R20), R10
	CBZW	R10, failed
	SUBW	$1, R10, R10
	MOVW	R10, step_tries(R20)
	B	again
failed:
	TSTW	$const_flagOptional, R9
	BEQ	fatal
	MOVW	R0, step_errno(R20)
	B	next
fatal:
	MOVW	R0, header_failed(R19)
exit:
	MOVD	$SYS_exit_group, R8
	MOVD	$127, R0
	SVC
	B	exit
