// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/testutil"
)

// refusals is a child in a user namespace of its own, of which it is root, that may
// not have another one below it.
func refusals([]string) int {
	start := func() error {
		p, err := Compile(Spec{Path: "/proc/self/exe", Namespaces: NewUser, UIDMaps: []IDMap{{0, 0, 1}}, GIDMaps: []IDMap{{0, 0, 1}}, Files: []int{-1, -1, -1}})
		if err != nil {
			return err
		}
		_, err = p.Start(context.Background())
		return err
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		fmt.Println(err)
		return 1
	}
	err := start()
	var step *StepError
	var why *Refused
	if !errors.As(err, &step) || step.PID != 0 || !errors.As(err, &why) || !errors.Is(err, unix.ENOSPC) {
		fmt.Println("not refused as it should be:", err)
		return 1
	}
	fmt.Println(err)
	return 0
}

// No more user namespaces (fault 55).
func TestUserNamespacesExhausted(t *testing.T) {
	testutil.Require(t, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	cmd := testutil.Child(t, "refusals")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	cmd.Stderr = nil
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "max_*_namespaces")
}

// A map of more than oneself, without the right to it and without newuidmap(1)
// (fault 55).
func TestMapOfOthers(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged, testutil.UserNamespaces)
	testutil.CheckLeaks(t)
	id := uint32(os.Getuid())
	p := program(t, Spec{Namespaces: NewUser, UIDMaps: []IDMap{{0, id, 1}, {1, 100000, 1000}}, GIDMaps: []IDMap{{0, uint32(os.Getgid()), 1}}}, "exit", "0")
	_, err := p.Start(context.Background())
	var why *Refused
	require.ErrorAs(t, err, &why)
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.ErrorContains(t, err, "uid_map")
	assert.ErrorContains(t, err, "a map is one line")
}

// AppArmor grants a user namespace, and then nothing in it (fault 55).
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "restriction")
	assert.Equal(t, unix.EPERM, refused(unix.EPERM, file), "no such thing here")
	require.NoError(t, os.WriteFile(file, []byte("0\n"), 0o600))
	assert.Equal(t, unix.EPERM, refused(unix.EPERM, file))
	require.NoError(t, os.WriteFile(file, []byte("1\n"), 0o600))
	err := refused(unix.EPERM, file)
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.ErrorContains(t, err, "AppArmor")
	assert.Equal(t, unix.EINVAL, refused(unix.EINVAL, file))
	assert.ErrorIs(t, refused(unix.EUSERS, file), unix.EUSERS)
	plain := &Program{}
	assert.Equal(t, unix.ENOSPC, plain.explain(unix.ENOSPC), "not about a user namespace")
}
