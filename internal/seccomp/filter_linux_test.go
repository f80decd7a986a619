// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package seccomp

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// machine runs a filter on one system call and returns what seccomp(2) would.
func machine(t testing.TB, filter []byte) func(arch uint32, nr uintptr, arg0 uint64) uint32 {
	var raw []bpf.RawInstruction
	for i := 0; i < len(filter); i += 8 {
		raw = append(raw, bpf.RawInstruction{
			Op: binary.LittleEndian.Uint16(filter[i:]), Jt: filter[i+2], Jf: filter[i+3], K: binary.LittleEndian.Uint32(filter[i+4:]),
		})
	}
	program, ok := bpf.Disassemble(raw)
	require.True(t, ok)
	vm, err := bpf.NewVM(program)
	require.NoError(t, err)
	return func(arch uint32, nr uintptr, arg0 uint64) uint32 {
		// The machine is made for packets, so its words are big-endian.
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data[offNr:], uint32(nr))
		binary.BigEndian.PutUint32(data[offArch:], arch)
		binary.BigEndian.PutUint32(data[offArg0:], uint32(arg0))
		verdict, err := vm.Run(data)
		require.NoError(t, err)
		return uint32(verdict)
	}
}

const (
	allows  = uint32(unix.SECCOMP_RET_ALLOW)
	refuses = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	lacks   = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
)

const (
	chroot   = 1 << unix.CAP_SYS_CHROOT
	sysAdmin = 1 << unix.CAP_SYS_ADMIN
)

func TestDefault(t *testing.T) {
	run := machine(t, Default(chroot))
	for name, c := range map[string]struct {
		nr   uintptr
		arg  uint64
		want uint32
	}{
		"read":             {unix.SYS_READ, 0, allows},
		"execve":           {unix.SYS_EXECVE, 0, allows},
		"ptrace":           {unix.SYS_PTRACE, 0, allows},
		"chroot":           {unix.SYS_CHROOT, 0, allows},
		"AF_INET":          {unix.SYS_SOCKET, unix.AF_INET, allows},
		"AF_UNIX":          {unix.SYS_SOCKET, unix.AF_UNIX, allows},
		"AF_MCTP":          {unix.SYS_SOCKET, unix.AF_MCTP, allows},
		"AF_ALG":           {unix.SYS_SOCKET, unix.AF_ALG, refuses},
		"AF_VSOCK":         {unix.SYS_SOCKET, unix.AF_VSOCK, refuses},
		"AF_ALG, high":     {unix.SYS_SOCKET, 1<<32 | unix.AF_ALG, refuses},
		"AF_46":            {unix.SYS_SOCKET, 46, refuses},
		"io_uring":         {unix.SYS_IO_URING_SETUP, 0, refuses},
		"io_uring_enter":   {unix.SYS_IO_URING_ENTER, 0, refuses},
		"keyctl":           {unix.SYS_KEYCTL, 0, refuses},
		"add_key":          {unix.SYS_ADD_KEY, 0, refuses},
		"userfaultfd":      {unix.SYS_USERFAULTFD, 0, refuses},
		"bpf":              {unix.SYS_BPF, 0, refuses},
		"mount":            {unix.SYS_MOUNT, 0, refuses},
		"fsopen":           {unix.SYS_FSOPEN, 0, refuses},
		"setns":            {unix.SYS_SETNS, 0, refuses},
		"unshare":          {unix.SYS_UNSHARE, 0, refuses},
		"kexec_load":       {unix.SYS_KEXEC_LOAD, 0, refuses},
		"init_module":      {unix.SYS_INIT_MODULE, 0, refuses},
		"open_by_handle":   {unix.SYS_OPEN_BY_HANDLE_AT, 0, refuses},
		"perf_event_open":  {unix.SYS_PERF_EVENT_OPEN, 0, refuses},
		"reboot":           {unix.SYS_REBOOT, 0, refuses},
		"clone, a thread":  {unix.SYS_CLONE, unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND, allows},
		"clone, a user ns": {unix.SYS_CLONE, unix.CLONE_NEWUSER | uint64(unix.SIGCHLD), refuses},
		"clone, a net ns":  {unix.SYS_CLONE, unix.CLONE_NEWNET, refuses},
		"clone3":           {unix.SYS_CLONE3, 0, lacks},
		"personality":      {unix.SYS_PERSONALITY, 0, allows},
		"no randomization": {unix.SYS_PERSONALITY, 0x40000, refuses},
		"what comes later": {1000, 0, lacks},
		"x32":              {0x40000000 | unix.SYS_READ, 0, lacks},
		"-1":               {0xffffffff, 0, lacks},
	} {
		assert.Equal(t, c.want, run(auditArch, c.nr, c.arg), name)
	}
	assert.Equal(t, lacks, run(0x40000003, unix.SYS_READ, 0), "another ABI")

	run = machine(t, Default(sysAdmin))
	for _, nr := range []uintptr{unix.SYS_MOUNT, unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_BPF, unix.SYS_CLONE3} {
		assert.Equal(t, allows, run(auditArch, nr, 0))
	}
	assert.Equal(t, allows, run(auditArch, unix.SYS_CLONE, unix.CLONE_NEWUSER))
	assert.Equal(t, refuses, run(auditArch, unix.SYS_CHROOT, 0))
	assert.Equal(t, refuses, run(auditArch, unix.SYS_KEXEC_LOAD, 0), "a capability is not everything")
}

// Every number has the answer that the lists say: the search loses none.
func TestDefaultIsTheList(t *testing.T) {
	for _, caps := range []uint64{0, chroot, sysAdmin, 1<<41 - 1} {
		run, list := machine(t, Default(caps)), allowed(caps)
		var special []uintptr
		for _, s := range specials(caps) {
			special = append(special, s.nr)
			assert.Less(t, len(s.then), 256, "a jump of eight bits")
		}
		last := slices.Max(list)
		for nr := range last + 100 {
			want := refuses
			switch {
			case slices.Contains(special, nr):
				continue
			case slices.Contains(list, nr):
				want = allows
			case nr > last:
				want = lacks
			}
			require.Equal(t, want, run(auditArch, nr, 0), "call %d with capabilities %x", nr, caps)
		}
	}
	assert.Less(t, len(Default(1<<41-1))/8, 4096, "BPF_MAXINSNS")
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		Default(chroot)
	}
}
