// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{"keep": childKeep})
}

// crashing is the config of what is killed: files are many.
func crashing() Config { return Config{MaxSize: 20 << 10, MaxTotal: 1 << 30, Compress: true} }

// childKeep keeps the log "web" below args[0] until it is killed.
func childKeep(args []string) int {
	k, err := OpenKeeper(args[0])
	c := crashing()
	c.Block = args[1] == "block"
	if err == nil {
		_, err = k.Open("web", c)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

// keeper is one in a directory of the test's own.
func keeper(t testing.TB) *Keeper {
	t.Helper()
	testutil.CheckLeaks(t)
	k, err := OpenKeeper(filepath.Join(t.TempDir(), "logs"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, k.Close()) })
	return k
}

// opened is the log "web" of it, with the workload's descriptors.
func opened(t testing.TB, k *Keeper, c Config) (l *Log, stdout, stderr *os.File) {
	t.Helper()
	l, err := k.Open("web", c)
	require.NoError(t, err)
	stdout, stderr, err = l.Files()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = stdout.Close()
		_ = stderr.Close()
	})
	return l, stdout, stderr
}

// texts are the lines of the log, "stream text" each.
func texts(t testing.TB, l *Log) (all []string) {
	t.Helper()
	for line, err := range Read(l.path(""), l.cfg.Format) {
		require.NoError(t, err)
		all = append(all, line.Stream.String()+" "+string(line.Text))
	}
	return all
}
