// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// A script is what a machine does after it was told what to run: it prints,
// and then powers off, hangs, or dies.
type script struct {
	console string
	hangs   bool
	err     error
}

func TestRestart(t *testing.T) {
	const up = "@@ up 6.1\r\n"
	begin := func(user, pkg string) string { return "@@ begin " + user + " " + pkg + "\r\n" }
	pass := line("=== RUN   TestA") + line("--- PASS: TestA (0.00s)") + end
	fail := line("=== RUN   TestF") + "    f_test.go:3: wrong\r\n" + line("--- FAIL: TestF (0.00s)") + end
	running := line("=== RUN   TestH")
	ends := func(user, pkg, output, status string) string {
		return begin(user, pkg) + output + "\r\n@@ end " + status + " 1\r\n"
	}
	all := ends("root", "a", pass, "0") + ends("root", "internal+b", pass, "0") +
		ends("user", "a", pass, "0") + ends("user", "internal+b", pass, "0") + "@@ done\r\n"
	timeout := running + "panic: test timed out after 2m30s\r\n"
	qemuDied := errors.New("signal: segmentation fault")

	for _, c := range []struct {
		name     string
		boots    []script
		todo     []string // what each boot after the first is told, root's and user's
		restarts []int    // root's and user's
		passed   int
		wrong    string
	}{
		{"none", []script{{console: up + all}}, nil, []int{0, 0}, 4, ""},
		{
			"hung in boot", []script{{console: "[    0.1] kernel\r\n", hangs: true}, {console: up + all}},
			[]string{"a\ninternal+b\n/a\ninternal+b\n"}, []int{1, 0}, 4, "",
		},
		{
			"hung within a test", []script{
				{console: up + ends("root", "a", pass, "0") + begin("root", "internal+b") + pass + running, hangs: true},
				{console: up + ends("root", "internal+b", pass, "0") + ends("user", "a", pass, "0") + ends("user", "internal+b", pass, "0") + "@@ done\r\n"},
			},
			[]string{"internal+b\n/a\ninternal+b\n"}, []int{1, 0}, 4, "",
		},
		{
			"hung twice", []script{
				{console: up + ends("root", "a", pass, "0"), hangs: true},
				{console: up + ends("root", "internal+b", pass, "0") + begin("user", "a"), hangs: true},
				{console: up + ends("user", "a", pass, "0") + ends("user", "internal+b", pass, "0") + "@@ done\r\n"},
			},
			[]string{"internal+b\n/a\ninternal+b\n", "/a\ninternal+b\n"}, []int{1, 1}, 4, "",
		},
		{
			"hung three times", []script{{console: up, hangs: true}, {console: up, hangs: true}, {console: up, hangs: true}},
			[]string{"a\ninternal+b\n/a\ninternal+b\n", "a\ninternal+b\n/a\ninternal+b\n"}, []int{2, 0}, 0, "failed 3 times: printed nothing",
		},
		{
			"hung at its end", []script{{console: up + all, hangs: true}}, nil, []int{0, 0}, 4, "",
		},
		{
			"qemu died", []script{{console: up + begin("root", "a"), err: qemuDied}, {console: up + all}},
			[]string{"a\ninternal+b\n/a\ninternal+b\n"}, []int{1, 0}, 4, "",
		},
		{
			"a failed test stays failed, and does not run again", []script{
				{console: up + begin("root", "a") + fail + pass + running, hangs: true}, {console: up + all},
			},
			[]string{"a -test.skip=^(TestF)$\ninternal+b\n/a\ninternal+b\n"}, []int{1, 0}, 4, "TestF failed",
		},
		{
			"a failed binary does not run again", []script{
				{console: up + ends("root", "a", fail, "1") + begin("root", "internal+b"), hangs: true},
				{console: up + ends("root", "internal+b", pass, "0") + ends("user", "a", pass, "0") + ends("user", "internal+b", pass, "0") + "@@ done\r\n"},
			},
			[]string{"internal+b\n/a\ninternal+b\n"}, []int{1, 0}, 3, "TestF failed",
		},
		{
			"a test that ran out of time", []script{{
				console: up + ends("root", "a", timeout, "2") + ends("root", "internal+b", pass, "0") +
					ends("user", "a", pass, "0") + ends("user", "internal+b", pass, "0") + "@@ done\r\n",
			}}, nil, []int{0, 0}, 3, "test timed out",
		},
		{
			"a test that ran out of time, and then the machine hung", []script{
				{console: up + begin("root", "a") + timeout, hangs: true},
				{console: up + ends("root", "internal+b", pass, "0") + ends("user", "a", pass, "0") + ends("user", "internal+b", pass, "0") + "@@ done\r\n"},
			},
			[]string{"internal+b\n/a\ninternal+b\n"}, []int{1, 0}, 3, "ran out of time",
		},
		{
			"the kernel panicked", []script{{console: up + begin("root", "a") + running + "Kernel panic - not syncing\r\n"}},
			nil, []int{0, 0}, 0, "Kernel panic",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := environment{linux61, "v2", nil}
			r := newReport(e, []testBinary{{pkg: "a"}, {pkg: "internal/b"}}, filepath.Join(t.TempDir(), "log"))
			var told []string
			synctest.Test(t, func(t *testing.T) {
				r.run(t.Context(), false, func(ctx context.Context, todo map[string]string, console io.Writer) error {
					s := c.boots[len(told)]
					told = append(told, todo["root"]+"/"+todo["user"])
					_, err := io.WriteString(console, s.console)
					if s.hangs {
						<-ctx.Done()
					}
					return errors.Join(err, s.err)
				})
			})
			assert.Len(t, told, len(c.boots))
			assert.Equal(t, c.todo, append([]string(nil), told[1:]...))
			assert.Equal(t, c.restarts, []int{r.runs["root"].restarts, r.runs["user"].restarts})
			assert.Equal(t, c.passed, r.runs["root"].passed+r.runs["user"].passed)
			assert.Equal(t, c.wrong == "", r.ok(), r.details())
			assert.Contains(t, r.details(), c.wrong)
			for range c.restarts[0] + c.restarts[1] {
				assert.Contains(t, r.details(), "started again")
			}
		})
	}
}

// A machine that prints is alive, however long it takes.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReport(environment{linux61, "v2", nil}, nil, filepath.Join(t.TempDir(), "log"))
		start := time.Now()
		r.run(t.Context(), false, func(ctx context.Context, _ map[string]string, console io.Writer) error {
			_, _ = io.WriteString(console, "@@ up 6.1\r\n@@ begin root a\r\n")
			for range 10 {
				time.Sleep(silentTests - time.Second)
				if _, err := io.WriteString(console, "=== RUN   TestSlow\r\n"); err != nil {
					return err
				}
			}
			_, err := io.WriteString(console, "@@ done\r\n")
			return err
		})
		assert.Empty(t, r.wrongs)
		assert.Empty(t, r.notes)
		assert.Equal(t, 10*(silentTests-time.Second), time.Since(start))
	})
}

func TestSilenceOf(t *testing.T) {
	for env, want := range map[string]time.Duration{
		"": silentTests, "A=1 TEST_TIMEOUT=15m": 15*time.Minute + 30*time.Second, "TEST_TIMEOUT=10s": silentTests, "TEST_TIMEOUT=x": silentTests,
	} {
		assert.Equal(t, want, silenceOf(env), env)
	}
}

func TestTimeoutOfTheWholeMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReport(environment{linux61, "v2", nil}, []testBinary{{pkg: "a"}}, filepath.Join(t.TempDir(), "log"))
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("stopped after 10s"))
		defer cancel()
		r.run(ctx, false, func(ctx context.Context, _ map[string]string, console io.Writer) error {
			_, _ = io.WriteString(console, "@@ up 6.1\r\n@@ begin root a\r\nlast words\r\n")
			<-ctx.Done()
			return ctx.Err()
		})
		assert.Contains(t, r.details(), "stopped after 10s")
		assert.Contains(t, r.details(), "last words")
		assert.Zero(t, r.runs["root"].restarts)
	})
}

func TestCanPatch(t *testing.T) {
	for version, want := range map[string]bool{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\n": false,
		"QEMU emulator version 8.0.5\n":                                 false,
		"QEMU emulator version 8.1.0\n":                                 true,
		"QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds)\n":         true,
		"": false,
	} {
		assert.Equal(t, want, canPatch(version), strings.TrimSpace(version))
	}
}
