// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/caisson-run/caisson/netns/nft"
	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// inside says that the test is on a machine of its own.
const inside = "CAISSON_TEST_INSIDE"

// onOwnMachine runs the calling test in a process of its own, where it has the
// network and the pins to itself, and reports whether this is that process.
func onOwnMachine(t *testing.T) bool {
	if os.Getenv(inside) == "" {
		testutil.Require(t, testutil.Root, testutil.NetAdmin)
		exe, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(exe, "-test.v", "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if i := strings.Index(string(out), "skip("); i >= 0 {
			class, reason, _ := strings.Cut(string(out)[i+len("skip("):], "): ")
			testutil.Skip(t, testutil.Requirement(class), "%s", reason)
		}
		require.NoError(t, err, "%s", out)
		return false
	}
	require.NoError(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	require.NoError(t, syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	own, err := namespaces.Current(namespaces.Network)
	require.NoError(t, err)
	defer own.Close()
	h, err := netns.Open(own)
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.SetUp(t.Context(), netns.Loopback))
	addr, err := netlink.ParseAddr("192.0.2.1/32")
	require.NoError(t, err)
	require.NoError(t, netlink.AddrAdd(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}, addr))
	return true
}

// A published port leads to the sandbox as long as that is there, across
// invocations, and the table goes with clean.
func TestPublish(t *testing.T) {
	if !onOwnMachine(t) {
		return
	}
	if probe, err := nft.Open(t.Context(), nft.Config{Scope: "probe"}); errors.Is(err, netns.ErrNotSupported) {
		testutil.Skip(t, "nftables", "%v", err)
	} else {
		require.NoError(t, err)
		require.NoError(t, probe.Delete(t.Context()))
		require.NoError(t, probe.Close())
	}
	tables := func() (names []string) {
		all, err := (&nftables.Conn{}).ListTables()
		require.NoError(t, err)
		for _, table := range all {
			names = append(names, table.Name)
		}
		return names
	}
	dir := filepath.Join(t.TempDir(), "state")
	c := &cli{t, []string{"--root", dir, "--parent", testutil.CgroupName(t)}}
	exe, err := os.Executable()
	require.NoError(t, err)
	ask := func() (string, error) {
		conn, err := net.DialTimeout("tcp", "192.0.2.1:8080", testutil.Patience(2*time.Second))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(testutil.Patience(2 * time.Second)))
		text, err := io.ReadAll(conn)
		return string(text), err
	}
	c.ok("run", "plain", "--net", "veth:ip=10.9.0.9/32", "--", "true")
	assert.Empty(t, tables(), "nobody wanted any")

	create := func(id, ip string) []string {
		return []string{"create", id, "--net", "veth:ip=" + ip + "/32", "--publish", "8080:80", "--masquerade", "--env", asServer + "=" + id, "--", exe}
	}
	c.ok(create("web", "10.9.0.2")...)
	require.Eventually(t, func() bool { text, err := ask(); return err == nil && text == "web" }, testutil.Patience(5*time.Second), 5*time.Millisecond)
	c.fails(exitFailed, "file exists", create("thief", "10.9.0.3")...)
	c.ok("check", "web")
	text, err := ask()
	require.NoError(t, err)
	assert.Equal(t, "web", text)
	c.ok("destroy", "web")
	_, err = ask()
	assert.Error(t, err)
	c.ok(create("next", "10.9.0.3")...)
	require.Eventually(t, func() bool { text, err := ask(); return err == nil && text == "next" }, testutil.Patience(5*time.Second), 5*time.Millisecond)
	c.ok("destroy", "next")
	assert.Len(t, tables(), 1)
	c.ok("clean")
	assert.NoDirExists(t, dir)
	assert.Empty(t, tables())
}
