// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// TestExecTerminal: a program behind the caller's terminal has its size, hears of
// a new one, and gets keys as they are.
func TestExecTerminal(t *testing.T) {
	c := newCLI(t)
	c.ok("create", "a", "--", "sh", "-c", "while :; do sleep 100; done")
	term, err := isolation.NewTerminal()
	require.NoError(t, err)
	defer term.Close()
	require.NoError(t, term.Resize(33, 99))
	cmd := c.command("exec", "a", "-t", "--", "sh", "-c",
		`trap "stty size; exit 5" WINCH; stty size; stty raw -echo; echo raw; [ "$(dd bs=1 count=1 2>/dev/null)" = "$(printf '\003')" ] && echo 3; echo ready; while :; do sleep 0.05; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.TTY(), term.TTY(), term.TTY()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	defer time.AfterFunc(testutil.Patience(20*time.Second), func() { _ = cmd.Process.Kill() }).Stop()
	require.NoError(t, term.Started())
	lines := bufio.NewReader(term)
	next := func() string {
		line, err := lines.ReadString('\n')
		require.NoError(t, err, "%s", line)
		return strings.TrimSpace(line)
	}
	assert.Equal(t, "33 99", next())
	assert.Equal(t, "raw", next())
	_, err = term.Write([]byte{3}) // ^C is a key here, and no interrupt of the command line
	require.NoError(t, err)
	assert.Equal(t, "3", next())
	assert.Equal(t, "ready", next())
	require.NoError(t, term.Resize(40, 80))
	assert.Equal(t, "40 80", next())
	_, err = io.Copy(io.Discard, lines)
	require.NoError(t, err)
	_ = cmd.Wait()
	assert.Equal(t, 5, cmd.ProcessState.ExitCode())
}
