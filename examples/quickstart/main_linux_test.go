// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asProgram makes the test binary be the program that it tests. The sandboxes
// do not inherit it, so they are known by their arguments.
const asProgram = "CAISSON_TEST_QUICKSTART"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" || len(os.Args) == 5 && (os.Args[1] == "service" || os.Args[1] == "batch") {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(t, err)
	tick := 300 * time.Millisecond
	if testutil.Emulated() {
		tick = 600 * time.Millisecond
	}
	cmd := exec.Command(exe, "-root", filepath.Join(t.TempDir(), "state"), "-parent", testutil.CgroupName(t), "-tick", tick.String())
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = os.Stderr
	return cmd
}

func TestQuickstart(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.PSI)
	testutil.CheckLeaks(t)
	cmd := program(t)
	out, err := cmd.Output()
	text := string(out)
	t.Log("\n" + text)
	require.NoError(t, err)
	for _, want := range []string{
		"service runs", "batch runs", "the plan:\n1. write", "while both run", "alone ", "beside the batch job ",
		"after the change ", "left behind ", "\nNothing.\n",
	} {
		assert.Contains(t, text, want)
	}
}

func TestInterrupt(t *testing.T) {
	testutil.Require(t, testutil.Root, testutil.PSI)
	testutil.CheckLeaks(t)
	cmd := program(t)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "batch runs") {
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
		}
	}
	assert.Error(t, cmd.Wait())
	assert.Contains(t, errs.String(), "interrupted")
	assert.Contains(t, text.String(), "\nNothing.\n", "what was made is taken away")
	assert.NotContains(t, text.String(), "the plan")
}

func TestUnprivileged(t *testing.T) {
	testutil.Require(t, testutil.Unprivileged)
	cmd := program(t)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	assert.Error(t, err)
	assert.Contains(t, string(out), "needs root")
	assert.Contains(t, string(out), "CPUs")
	assert.Equal(t, 1, strings.Count(errs.String(), "\n"), "%s", errs.String())
}
