// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

// refusing is a filter that refuses one system call with an errno.
func refusing(nr uintptr, errno unix.Errno) []byte {
	var b []byte
	for _, i := range []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	} {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

func TestSeccomp(t *testing.T) {
	testutil.CheckLeaks(t)
	filter := refusing(unix.SYS_GETSID, unix.EPERM)
	v, _ := see(t, Spec{NoNewPrivs: true, Seccomp: filter})
	assert.Equal(t, "2", v.Status["Seccomp"])
	assert.Equal(t, -1, v.Session, "what it refuses")
	assert.Equal(t, "0", ownStatus(t)["Seccomp"], "the caller has none")

	if unix.Geteuid() != 0 {
		return
	}
	v, _ = see(t, Spec{Seccomp: filter, Capabilities: &Capabilities{}})
	assert.Equal(t, "2", v.Status["Seccomp"], "loaded while it may be")
	assert.Equal(t, "0", v.Status["NoNewPrivs"])
}

func TestSeccompRefused(t *testing.T) {
	var bad *SpecError
	for _, filter := range [][]byte{make([]byte, 7), make([]byte, 8*(maxInsns+1))} {
		s := Spec{Path: "/x", Seccomp: filter}
		assert.ErrorAs(t, s.Validate(), &bad)
	}
}

// A filter that refuses execve, or that the kernel refuses, is a step's error.
func TestSeccompFails(t *testing.T) {
	testutil.CheckLeaks(t)
	for filter, step := range map[string]string{
		string(refusing(unix.SYS_EXECVE, unix.EACCES)): "execve",
		strings.Repeat("\xff", 8):                      "seccomp",
	} {
		_, err := program(t, Spec{NoNewPrivs: true, Seccomp: []byte(filter)}, "exit", "0").Start(t.Context())
		var e *StepError
		require.ErrorAs(t, err, &e)
		assert.Contains(t, e.Step, step)
	}
}

func TestScheduling(t *testing.T) {
	testutil.CheckLeaks(t)
	var own unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	cpu := 0
	for !own.IsSet(cpu) {
		cpu++
	}
	nice := 5
	v, _ := see(t, Spec{Scheduling: &Scheduling{CPUs: []int{cpu}, Policy: unix.SCHED_BATCH, Nice: &nice, IOClass: 3}, Keyring: true})
	assert.Equal(t, strconv.Itoa(cpu), v.Status["Cpus_allowed_list"])
	assert.Equal(t, fmt.Sprint(unix.SCHED_BATCH, " ", nice, " ", 3<<13), v.Scheduling)
}

func TestKeyring(t *testing.T) {
	testutil.CheckLeaks(t)
	before, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		testutil.Skip(t, "keyrings", "%v", err)
	}
	v, _ := see(t, Spec{Keyring: true})
	assert.NotEqual(t, before, v.Keyring)
	v, _ = see(t, Spec{})
	assert.Equal(t, before, v.Keyring)
}

func TestScope(t *testing.T) {
	testutil.CheckLeaks(t)
	if Landlock() < 6 {
		testutil.Skip(t, "landlock.scope", "version %d", Landlock())
	}
	name := fmt.Sprintf("\x00caisson-scope-%d", unix.Getpid())
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name[1:]}))
	require.NoError(t, unix.Listen(fd, 8))
	env := []string{"ABSTRACT=@" + name[1:]}
	v, _ := see(t, Spec{Env: env})
	assert.Empty(t, v.Abstract)
	v, _ = see(t, Spec{Env: env, NoNewPrivs: true, Scoped: unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET})
	assert.Equal(t, unix.EPERM.Error(), v.Abstract)
}
