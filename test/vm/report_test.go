// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
)

// consoleOf is what a machine prints that runs one test binary for each user.
func consoleOf(output, status string) string {
	s := "[    0.1] kernel\r\n@@ up 6.1\r\n"
	for _, user := range []string{"root", "user"} {
		s += "@@ begin " + user + " internal+x\r\n" + output + "\r\n@@ end " + status + " 3\r\n"
	}
	return s + "@@ done\r\n[    9.9] reboot: Power down\r\n"
}

// line is one of test2json's markers, as a test binary prints it.
func line(s string) string { return "\x16" + s + "\r\n" }

// end is the marker after a test's result.
const end = "\x16=== NAME  \r\n"

func TestReport(t *testing.T) {
	pass := line("=== RUN   TestA") + line("--- PASS: TestA (0.00s)") + end
	skip := func(reason string) string {
		return line("=== RUN   TestB") + "    b_test.go:9: " + reason + "\r\n" + line("--- SKIP: TestB (0.00s)") + end
	}
	fail := line("=== RUN   TestC") + "    c_test.go:3: wrong\r\n" + line("--- FAIL: TestC (0.00s)") + end + "FAIL\r\n"
	sub := line("=== RUN   TestD") + line("=== RUN   TestD/x") + line("=== RUN   TestD/y") +
		line("--- PASS: TestD/x (0.00s)") + line("--- PASS: TestD/y (0.00s)") + line("--- PASS: TestD (0.00s)") + end
	failSub := line("=== RUN   TestD") + line("=== RUN   TestD/x") + line("=== RUN   TestD/y") +
		line("--- PASS: TestD/x (0.00s)") + line("--- FAIL: TestD/y (0.00s)") + line("--- FAIL: TestD (0.00s)") + end

	for _, c := range []struct {
		name, console string
		cut           error
		want          tally // of root
		wrong         string
	}{
		{"pass", consoleOf(pass, "0"), nil, tally{passed: 1}, ""},
		{"parents are not counted", consoleOf(sub, "0"), nil, tally{passed: 2}, ""},
		{"typed skip", consoleOf(pass+skip("skip(cgroup1.memory): none"), "0"), nil, tally{passed: 1, skipped: 1}, ""},
		{"fail", consoleOf(pass+fail, "1"), nil, tally{passed: 1, failed: 1}, "TestC failed"},
		{"failed subtest", consoleOf(failSub, "1"), nil, tally{passed: 1, failed: 1}, "TestD/y failed"},
		{"untyped skip", consoleOf(skip("not today"), "0"), nil, tally{skipped: 1}, "no typed reason"},
		{"no reason", consoleOf(line("=== RUN   TestB")+line("--- SKIP: TestB (0.00s)")+end, "0"), nil, tally{skipped: 1}, "no typed reason"},
		{"skip of what is there", consoleOf(skip("skip(cgroup2.memory): none"), "0"), nil, tally{skipped: 1}, "which this environment has"},
		{"unknown class", consoleOf(skip("skip(weather): rain"), "0"), nil, tally{skipped: 1}, "does not know"},
		{"no test", consoleOf("PASS\r\n", "0"), nil, tally{}, "ran no test"},
		{"killed", consoleOf(line("=== RUN   TestA"), "137"), nil, tally{}, "exited with 137"},
		{"panic of the kernel", "@@ up 6.1\r\n@@ begin root internal+x\r\nOops\r\n", nil, tally{}, "did not come to its end"},
		{"init", "@@ error module veth\r\n" + consoleOf(pass, "0"), nil, tally{passed: 1}, "module veth"},
		{"qemu", consoleOf(pass, "0"), errors.New("exit status 1"), tally{passed: 1}, "exit status 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := environment{linux61, "v2", nil}
			r := newReport(e, []testBinary{{pkg: "internal/x"}}, filepath.Join(t.TempDir(), "log"))
			var in io.Reader = strings.NewReader(c.console)
			if c.cut != nil {
				in = io.MultiReader(in, iotest.ErrReader(c.cut))
			}
			r.run(t.Context(), false, func(_ context.Context, _ map[string]string, console io.Writer) error {
				_, err := io.Copy(console, in)
				return err
			})

			got := r.runs["root"]
			assert.Equal(t, c.want, tally{passed: got.passed, failed: got.failed, skipped: got.skipped})
			var out strings.Builder
			ok := summary(&out, []*report{r})
			assert.Equal(t, c.wrong == "", ok, r.details())
			assert.Regexp(t, `\n\d+ passed, \d+ failed, \d+ skipped\n$`, out.String())
			if c.wrong != "" {
				assert.Contains(t, r.details(), c.wrong)
				assert.NotContains(t, out.String(), " 0 failed")
			}
		})
	}
}

func TestMatrixNamesEachEnvironmentOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, e := range matrix {
		assert.False(t, seen[e.name()], e.name())
		seen[e.name()] = true
		for _, user := range users {
			offered := e.offers(user)
			assert.NotEmpty(t, offered)
			for _, class := range offered {
				assert.NotContains(t, absent, class)
				assert.NotContains(t, class, ",")
			}
		}
	}
}

// What is left out somewhere runs elsewhere.
func TestEveryPackageRuns(t *testing.T) {
	count := func(pkg string, asked bool) (envs []string) {
		for _, e := range matrix {
			if len(e.tests([]testBinary{{pkg: pkg}}, asked)) > 0 {
				envs = append(envs, e.name())
			}
		}
		return envs
	}
	everywhere := count("cgroups", false)
	assert.Len(t, everywhere, 7)
	for _, pkg := range modeless {
		want := ends
		if slices.Contains(portable, pkg) {
			want = want[:2]
		}
		assert.ElementsMatch(t, want, count(pkg, false), pkg)
		assert.Equal(t, everywhere, count(pkg, true), pkg)
	}
	for _, pkg := range portable {
		assert.Contains(t, modeless, pkg)
	}
	for pkg, envs := range chosen {
		assert.ElementsMatch(t, envs, count(pkg, false), pkg)
	}
}

func TestCpio(t *testing.T) {
	var c cpio
	c.dir("bin")
	c.file("bin/x", []byte("hello"))
	got := string(c.bytes())
	assert.Zero(t, len(got)%4)
	assert.True(t, strings.HasPrefix(got, "070701"+"00000001"+"000041ED"))
	assert.Contains(t, got, "bin/x\x00")
	assert.Contains(t, got, "hello\x00\x00\x00070701")
	assert.Contains(t, got, "TRAILER!!!\x00")
}
