// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/feature"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPidfdExit(t *testing.T) {
	testutil.CheckLeaks(t)
	for name, c := range map[string]struct {
		script string
		check  func(t *testing.T, ws syscall.WaitStatus)
	}{
		"code":   {"exit 7", func(t *testing.T, ws syscall.WaitStatus) { assert.Equal(t, 7, ws.ExitStatus()) }},
		"signal": {"kill -TERM $$", func(t *testing.T, ws syscall.WaitStatus) { assert.Equal(t, syscall.SIGTERM, ws.Signal()) }},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", "read x; "+c.script)
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			pidfd, err := PidfdOpen(cmd.Process.Pid)
			require.NoError(t, err)
			defer pidfd.Close()
			require.NoError(t, in.Close())

			_, err = PidfdExit(pidfd.Int(), 50*time.Millisecond)
			if !errors.Is(err, feature.ErrNotSupported) {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nobody has waited for it")
			}
			_ = cmd.Wait()
			ws, err := PidfdExit(pidfd.Int(), testutil.Patience(5*time.Second))
			if errors.Is(err, feature.ErrNotSupported) {
				testutil.Skip(t, "pidfd.exit", "%v", err)
			}
			require.NoError(t, err)
			c.check(t, ws)
		})
	}
	_, err := PidfdExit(0, 0)
	require.ErrorIs(t, err, feature.ErrNotSupported, "not a pidfd")
}
