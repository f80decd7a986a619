// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/sys"
)

// Stub is a program that children execute first, see stub.go.
type Stub struct{ fd *sys.FD }

// NewStub makes the stub. The caller closes it when no program that has it will
// be started any more.
//
// A sysctl, vm.memfd_noexec, may forbid it: [ErrNotSupported]. Linux 3.17.
func NewStub() (*Stub, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("init", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every memfd may be executed
		fd, err = unix.MemfdCreate("init", flags)
	}
	if errors.Is(err, unix.EACCES) {
		return nil, &feature.UnsupportedError{Feature: "a program in a memfd", Reason: "the sysctl vm.memfd_noexec forbids it", Err: err}
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, stubImage()); err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	// No file is executed while a descriptor may write to it.
	exec, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc/self/fd", Err: err}
	}
	return &Stub{sys.NewFD(exec)}, nil
}

// Close frees the stub. Programs that have it cannot be started any more.
func (s *Stub) Close() error {
	if s == nil {
		return nil
	}
	return s.fd.Close()
}

// execReport is the pipe by which a stub says that it could not execute its path.
type execReport struct {
	read, write *sys.FD
}

func newReport() (*execReport, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	return &execReport{sys.NewFD(fds[0]), sys.NewFD(fds[1])}, nil
}

func (r *execReport) close() error { return errors.Join(r.write.Close(), r.read.Close()) }

// wait returns the child once its stub has executed the path. Otherwise the child
// is gone.
func (r *execReport) wait(ctx context.Context, p *Program, c *Child) (*Child, error) {
	kill := func() { _ = unix.PidfdSendSignal(c.PIDFD.Int(), unix.SIGKILL, nil, 0) } // it may have ended
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { kill(); close(killed) }) // which ends the reading
	word := make([]byte, 4)
	n, err := 0, r.write.Close()
	if err == nil {
		n, err = r.readInto(word)
	}
	switch {
	case !stop():
		<-killed
		err = ctx.Err()
	case err == nil && n == 0:
		return c, nil // closed by execve, or by the end of all that had it, which Wait tells
	case err == nil:
		err = syscall.Errno(binary.NativeEndian.Uint32(word))
	}
	kill()
	_, _ = c.Wait()
	last := len(p.steps) - 1
	return nil, errors.Join(&StepError{Index: last, Step: p.text(last), PID: c.PID, Err: err}, c.PIDFD.Close())
}

// readInto reads what the stub says, in the one write that it makes, or nothing.
func (r *execReport) readInto(word []byte) (n int, err error) {
	for {
		if n, err = unix.Read(r.read.Int(), word); err != unix.EINTR {
			return n, os.NewSyscallError("read", err)
		}
	}
}

// Close frees what a program that is not started holds. Start does it too.
func (p *Program) Close() error {
	err := errors.Join(p.word.close(), p.closeIDMapped())
	if p.report == nil {
		return err
	}
	return errors.Join(err, p.report.close())
}

// holdStub takes the stub and the report to numbers that no later step uses.
func (p *Program) holdStub(s *Spec) {
	if s.Stub == nil {
		return
	}
	beyond := max(p.needed(s), s.kept()+2)
	p.held = [2]int{
		p.add(unix.SYS_FCNTL, p.report.write.Int(), unix.F_DUPFD_CLOEXEC, beyond),
		p.add(unix.SYS_FCNTL, s.Stub.fd.Int(), unix.F_DUPFD_CLOEXEC, beyond),
	}
}

// keepStub puts both behind the descriptors that the program gets. The report has
// to outlive the stub's exec, which then closes it.
func (p *Program) keepStub(at int) {
	p.add(unix.SYS_DUP3, result(p.held[0]), at, 0)
	p.add(unix.SYS_DUP3, result(p.held[1]), at+1, unix.O_CLOEXEC)
}

// execStub executes the stub, which executes the path.
func (p *Program) execStub(s *Spec, argv []string) {
	mode := "E"
	switch {
	case s.Reaper && s.joins(NewPID):
		mode = "X"
	case s.Reaper:
		mode = "R"
	}
	argv = append([]string{mode + strconv.Itoa(s.kept()), s.Path}, argv...)
	st := p.add(unix.SYS_EXECVEAT, s.kept()+1, "", p.vector(argv), p.vector(s.Env), unix.AT_EMPTY_PATH)
	p.label(st, "execve("+strconv.Quote(s.Path)+")")
}

// stubAt is where the stub's code begins.
func stubAt() *byte

// stubMark ends the code.
const stubMark = 0x5afe57b0de7ec7ed

// stubImage is the stub as an ELF file: a header, two segments, code.
func stubImage() []byte {
	const most = 1024
	code := unsafe.Slice(stubAt(), most)
	code = code[:bytes.Index(code, binary.LittleEndian.AppendUint64(nil, stubMark))]
	const (
		at       = 0x400000
		ehdr     = 64
		phdr     = 56
		headers  = ehdr + 2*phdr
		machine  = 62*(1-isARM64) + 183*isARM64 // EM_X86_64, EM_AARCH64
		exec     = 2                            // ET_EXEC
		load     = 1                            // PT_LOAD
		gnuStack = 0x6474e551                   // PT_GNU_STACK
		r, w, x  = 4, 2, 1
		align    = 1 << 16
	)
	size := uint64(headers + len(code))
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(le.AppendUint16(b, exec), machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, at+headers), ehdr), 0) // entry, segments, no sections
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{ehdr, phdr, 2, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	segment := func(kind, flags uint32, fields ...uint64) {
		b = le.AppendUint32(le.AppendUint32(b, kind), flags)
		for _, f := range fields {
			b = le.AppendUint64(b, f)
		}
	}
	segment(load, r|x, 0, at, at, size, size, align)
	segment(gnuStack, r|w, 0, 0, 0, 0, 0, 16)
	return append(b, code...)
}
