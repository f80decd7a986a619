// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is struct clone_args as of Linux 5.7.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
	cgroup                                        uint64
}

// header is the front of an arena, the memory that parent and child share. The
// steps follow it, then their data. The assembly knows it by go_asm.h.
type header struct {
	index  uint32 // the step that the child is in; 0 before its first, a futex
	failed uint32 // what ended that step: an errno, or result|unwanted
	abort  uint32 // set by the parent: take no further step
	mapped uint32 // set by the parent: the id maps are written, a futex
	pid    int32  // written by the kernel before the child runs; 0 until then
	pidfd  int32  // valid once pid is
	all    uint64 // a signal set with everything in it
	mask   uint64 // the calling thread's own signal mask meanwhile
	clone  cloneArgs
	_      [5]uint64
	stack  [8]uint64 // the child's; nothing ever pushes on it
}

// step is one system call of the child.
type step struct {
	nr    uint64
	args  [6]uint64
	outs  uint64 // a list of where to leave the result: addresses of later arguments, and 0; or 0
	want  uint32 // an errno that is the success of this step; its success is then a failure
	flags uint32
	errno uint32 // how an optional step was refused
	tries uint32 // how often it is done again when it says EAGAIN
}

const (
	flagOptional = 1 << 0 // an error is noted in errno, and the next step taken
	flagWait     = 1 << 1 // repeated until the word at args[0] is not 0
	flagWrite    = 1 << 2 // a result other than args[2] is a failure too
	flagFollows  = 1 << 3 // its EBADF only repeats that an optional step before it failed
	flagQuiet    = 1 << 4 // an optional step whose refusal is not worth telling

	// unwanted marks in header.failed the result of a call that should have
	// failed, or have done more.
	unwanted = 1 << 31

	headerSize = unsafe.Sizeof(header{})
	stepSize   = unsafe.Sizeof(step{})
)

// image is an arena in the making and, once finished, the template that each
// start copies, or the arena itself if there is one start only. Addresses in it are
// offsets until load adds where it lies.
type image struct {
	steps  []step
	ptrs   []uint8 // per step: bit i says that args[i] is an offset into data
	fields []uint8 // per step: bit i says that args[i] is an offset into header
	outs   []out
	data   []byte
	inner  []int // offsets in data of words that are offsets into data
	words  []uint64
	room   []uint64 // where words will be if all fits; the steps begin there
	relocs []uint32 // indices in words
	once   bool     // it is started once
}

// reserve makes room for so many steps, and for what usually goes with them.
func (im *image) reserve(steps int) {
	const dataEach = 24 // bytes, with the lists of results
	im.room = aligned(int(headerSize+uintptr(steps)*(stepSize+dataEach)) / 8)
	if steps > fewSteps { // a root's hand their results on
		im.outs = make([]out, 0, steps/2)
	}
	im.steps = stepsOf(im.room, steps)[:0:steps]
	both := make([]uint8, 2*steps)
	im.ptrs, im.fields = both[:0:steps], both[steps:steps:2*steps]
	im.data = make([]byte, 0, dataEach*steps)
	im.relocs = make([]uint32, 0, 3*steps)
}

// out says that the result of step from is argument arg of step to.
type out struct{ from, to, arg int }

// result is an argument that is the result of an earlier step, whose index it is.
type result int

// add appends a step. An argument of type string or []byte becomes the address
// of a copy (a string's ends in NUL), a block or a field its address; a result is
// known when the child has come to it.
func (im *image) add(nr uintptr, args ...any) int {
	st := step{nr: uint64(nr)}
	var ptrs, fields uint8
	for i, a := range args {
		switch a := a.(type) {
		case int:
			st.args[i] = uint64(a)
		case uint:
			st.args[i] = uint64(a)
		case uint32:
			st.args[i] = uint64(a)
		case uint64:
			st.args[i] = a
		case uintptr:
			st.args[i] = uint64(a)
		case string:
			st.args[i], ptrs = im.text(a), ptrs|1<<i
		case []byte:
			st.args[i], ptrs = im.bytes(a), ptrs|1<<i
		case block:
			st.args[i], ptrs = uint64(a), ptrs|1<<i
		case field:
			st.args[i], fields = uint64(a), fields|1<<i
		case result:
			st.args[i] = ^uint64(0) // no descriptor, where that step fails and may
			im.outs = append(im.outs, out{int(a), len(im.steps), i})
		default:
			panic("launch: an argument of an unknown type")
		}
	}
	im.steps, im.ptrs, im.fields = append(im.steps, st), append(im.ptrs, ptrs), append(im.fields, fields)
	return len(im.steps) - 1
}

// block is an offset into data, field one into header.
type (
	block uint64
	field uintptr
)

func (im *image) bytes(b []byte) uint64 {
	for len(im.data)%8 != 0 {
		im.data = append(im.data, 0)
	}
	at := len(im.data)
	im.data = append(im.data, b...)
	if len(b) == 0 {
		im.data = append(im.data, 0) // so that it has an address of its own
	}
	return uint64(at)
}

func (im *image) text(s string) uint64 {
	at := len(im.data)
	im.data = append(append(im.data, s...), 0)
	return uint64(at)
}

// vector lays out a NULL terminated array of strings, as execve wants it.
func (im *image) vector(items []string) block {
	at := make([]uint64, len(items)+1)
	for i, s := range items {
		at[i] = im.text(s)
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&at[0])), len(at)*8)
	array := im.bytes(raw)
	for i := range items {
		im.inner = append(im.inner, int(array)+i*8)
	}
	return block(array)
}

// finish lays out header, steps, data, and lists of where results go.
func (im *image) finish(args cloneArgs) {
	// The last step is execve, which does not return; the loop ends in it
	// whatever happens.
	im.add(unix.SYS_EXIT_GROUP, 127)
	dataAt := headerSize + uintptr(len(im.steps))*stepSize
	lists := dataAt + (uintptr(len(im.data))+7)&^7
	words := int(lists)/8 + len(im.outs)
	for _, o := range im.outs {
		if im.steps[o.from].outs == 0 {
			words++ // the end of its list
		}
		im.steps[o.from].outs++
	}
	if words <= len(im.room) && &im.steps[0] == &stepsOf(im.room, 1)[0] {
		im.words = im.room[:words]
	} else {
		im.words = aligned(words)
		copy(stepsOf(im.words, len(im.steps)), im.steps)
		im.steps = stepsOf(im.words, len(im.steps))
	}
	h := headerOf(im.words)
	*h = header{pidfd: -1, all: ^uint64(0), clone: args}
	h.clone.pidfd = uint64(unsafe.Offsetof(h.pidfd))
	h.clone.parentTID = uint64(unsafe.Offsetof(h.pid))
	h.clone.stack = uint64(unsafe.Offsetof(h.stack))
	h.clone.stackSize = uint64(unsafe.Sizeof(h.stack))
	base := unsafe.Offsetof(h.clone)
	im.reloc(base+unsafe.Offsetof(h.clone.pidfd),
		base+unsafe.Offsetof(h.clone.parentTID), base+unsafe.Offsetof(h.clone.stack))

	argAt := func(step, arg int) uintptr {
		return headerSize + uintptr(step)*stepSize + unsafe.Offsetof(step0.args) + uintptr(arg)*8
	}
	for i := range im.steps {
		st := &im.steps[i]
		for a := range st.args {
			if im.ptrs[i]&(1<<a) != 0 {
				st.args[a] += uint64(dataAt)
				im.reloc(argAt(i, a))
			}
			if im.fields[i]&(1<<a) != 0 {
				im.reloc(argAt(i, a))
			}
		}
	}
	for i := range im.steps {
		if st := &im.steps[i]; st.outs != 0 { // how many; now the end of its list, which is filled from there
			lists += uintptr(st.outs) * 8
			st.outs = uint64(lists)
			im.reloc(headerSize + uintptr(i)*stepSize + unsafe.Offsetof(step0.outs))
			lists += 8
		}
	}
	for _, o := range im.outs {
		at := im.steps[o.from].outs - 8
		im.steps[o.from].outs, im.words[at/8] = at, uint64(argAt(o.to, o.arg))
		im.reloc(uintptr(at))
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&im.words[0])), len(im.words)*8)
	copy(raw[dataAt:], im.data)
	for _, at := range im.inner {
		im.words[(dataAt+uintptr(at))/8] += uint64(dataAt)
		im.reloc(dataAt + uintptr(at))
	}
}

var step0 step // only for the offsets of its fields

func (im *image) reloc(offsets ...uintptr) {
	for _, o := range offsets {
		im.relocs = append(im.relocs, uint32(o/8))
	}
}

func headerOf(words []uint64) *header { return (*header)(unsafe.Pointer(&words[0])) }

func stepsOf(words []uint64, n int) []step {
	return unsafe.Slice((*step)(unsafe.Pointer(&words[headerSize/8])), n)
}

// arena is one start's copy of an image: ordinary heap memory without pointers,
// pinned, for the kernel and the child hold addresses into it.
type arena struct {
	words []uint64
	n     int // steps
	pin   runtime.Pinner
}

func (im *image) load() *arena {
	a := &arena{words: im.words, n: len(im.steps)}
	if !im.once {
		a.words = aligned(len(im.words))
		copy(a.words, im.words)
	}
	a.pin.Pin(&a.words[0])
	base := uint64(uintptr(unsafe.Pointer(&a.words[0])))
	for _, r := range im.relocs {
		a.words[r] += base
	}
	return a
}

// aligned is so many words at a multiple of 16 bytes, as a stack wants it.
func aligned(n int) []uint64 {
	words := make([]uint64, n+1)
	if uintptr(unsafe.Pointer(&words[0]))%16 != 0 {
		return words[1:]
	}
	return words[:n]
}

func (a *arena) header() *header { return headerOf(a.words) }
func (a *arena) steps() []step   { return stepsOf(a.words, a.n) }
func (a *arena) free()           { a.pin.Unpin() }
