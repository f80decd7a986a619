// SPDX-License-Identifier: Apache-2.0

#include "go_asm.h"
#include "textflag.h"

#define SYS_rt_sigprocmask 14
#define SYS_exit_group     231
#define SYS_clone3         435
#define SIG_SETMASK        2
#define EAGAIN             11
#define CLONE_ARGS_SIZE    88

// func clone(h *header) (errno uintptr)
//
// R12 is the header throughout. In the child BX is the step and R13 its index;
// the stack, the TLS and g belong to the parent and are not touched.
TEXT ·clone(SB), NOSPLIT, $0-16
	MOVQ	h+0(FP), R12

	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	header_all(R12), SI
	LEAQ	header_mask(R12), DX
	MOVQ	$8, R10
	SYSCALL

	MOVQ	$SYS_clone3, AX
	LEAQ	header_clone(R12), DI
	MOVQ	$CLONE_ARGS_SIZE, SI
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, R13

	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	header_mask(R12), SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL

	XORL	AX, AX
	TESTQ	R13, R13
	JNS	done
	NEGQ	R13
	MOVQ	R13, AX
done:
	MOVQ	AX, errno+8(FP)
	RET

child:
	LEAQ	header__size(R12), BX
	MOVL	$1, R13

run:
	MOVL	R13, header_index(R12)
again:
	MOVL	header_abort(R12), CX
	TESTL	CX, CX
	JNZ	exit
	MOVQ	step_nr(BX), AX
	MOVQ	(step_args+0)(BX), DI
	MOVQ	(step_args+8)(BX), SI
	MOVQ	(step_args+16)(BX), DX
	MOVQ	(step_args+24)(BX), R10
	MOVQ	(step_args+32)(BX), R8
	MOVQ	(step_args+40)(BX), R9
	SYSCALL

	// A wait is over when its word is set, whatever the call says.
	MOVL	step_flags(BX), CX
	TESTL	$const_flagWait, CX
	JZ	result
	MOVQ	(step_args+0)(BX), DX
	MOVL	(DX), DX
	TESTL	DX, DX
	JZ	again
	JMP	next

result:
	CMPQ	AX, $-4095
	JCC	refused

	MOVL	step_want(BX), DX
	TESTL	DX, DX
	JNZ	unwanted
	TESTL	$const_flagWrite, CX
	JZ	store
	CMPQ	AX, (step_args+16)(BX)
	JNE	unwanted
store:
	MOVQ	step_outs(BX), SI
	TESTQ	SI, SI
	JZ	next
each:
	MOVQ	(SI), DX
	TESTQ	DX, DX
	JZ	next
	MOVQ	AX, (DX)
	ADDQ	$8, SI
	JMP	each
next:
	ADDQ	$step__size, BX
	INCL	R13
	JMP	run

unwanted:
	ORL	$const_unwanted, AX
	JMP	failed
refused:
	NEGL	AX
	CMPL	AX, step_want(BX)
	JEQ	next
	CMPL	AX, $EAGAIN
	JNE	failed
	MOVL	step_tries(BX), DX
	TESTL	DX, DX
	JZ	failed
	DECL	step_tries(BX)
	JMP	again
failed:
	TESTL	$const_flagOptional, CX
	JZ	fatal
	MOVL	AX, step_errno(BX)
	JMP	next
fatal:
	MOVL	AX, header_failed(R12)
exit:
	MOVL	$SYS_exit_group, AX
	MOVL	$127, DI
	SYSCALL
	JMP	exit
