// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAgain(t *testing.T) {
	const begin = "@@ up 6.1\r\n@@ begin root a\r\n"
	pass := func(name string) string {
		return line("=== RUN   "+name) + line("--- PASS: "+name+" (0.00s)") + end
	}
	fail := func(name string) string {
		return line("=== RUN   "+name) + "    f_test.go:3: wrong\r\n" + line("--- FAIL: "+name+" (0.00s)") + end
	}
	sub := line("=== RUN   TestG") + line("=== RUN   TestG/x") + line("--- FAIL: TestG/x (0.00s)") + line("--- FAIL: TestG (0.00s)") + end
	var many string
	for _, c := range "ABCDEF" {
		many += fail("Test" + string(c))
	}

	for _, c := range []struct {
		name, first, second string
		err                 error  // of the second machine
		todo                string // what it is told; "" if there is none
		flakes, failures    []string
	}{
		{name: "nothing failed", first: pass("TestA")},
		{
			name: "passes the second time", first: fail("TestF") + pass("TestA") + sub, second: pass("TestF") + pass("TestG"),
			todo: "a -test.run=^(TestF|TestG)$\n", flakes: []string{"root a.TestF", "root a.TestG/x"},
		},
		{
			name: "fails again", first: fail("TestF") + sub, second: fail("TestF") + pass("TestG"),
			todo: "a -test.run=^(TestF|TestG)$\n", flakes: []string{"root a.TestG/x"}, failures: []string{"root a.TestF"},
		},
		{
			name: "does not run again", first: fail("TestF"), second: "PASS\r\n",
			todo: "a -test.run=^(TestF)$\n", failures: []string{"root a.TestF"},
		},
		{
			name: "the second machine fails", first: fail("TestF"), second: pass("TestF"), err: errors.New("exit status 1"),
			todo: "a -test.run=^(TestF)$\n", failures: []string{"root a.TestF"},
		},
		{
			name: "too many for an accident", first: many,
			failures: []string{"root a.TestA", "root a.TestB", "root a.TestC", "root a.TestD", "root a.TestE", "root a.TestF"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReport(environment{linux61, "v2", nil}, []testBinary{{pkg: "a"}}, filepath.Join(t.TempDir(), "log"))
			r.runs["user"].ended["a"] = true
			boot := func(output string, err error) func(context.Context, map[string]string, io.Writer) error {
				return func(_ context.Context, todo map[string]string, console io.Writer) error {
					status := "0"
					if strings.Contains(output, "--- FAIL") {
						status = "1"
					}
					_, _ = io.WriteString(console, begin+output+"\r\n@@ end "+status+" 1\r\n@@ done\r\n")
					return err
				}
			}
			r.run(t.Context(), false, boot(c.first, nil))

			var told string
			again([]*report{r}, io.Discard, func(s *report) {
				lists, _ := s.todo()
				told += lists["root"] + lists["user"]
				s.run(t.Context(), false, boot(c.second, c.err))
			})
			assert.Equal(t, c.todo, told)

			var out strings.Builder
			ok := summary(&out, []*report{r})
			assert.Equal(t, len(c.failures) == 0, ok)
			assert.Equal(t, len(c.failures), r.runs["root"].failed)
			assert.Equal(t, len(c.flakes), strings.Count(out.String(), "FLAKED"))
			assert.Equal(t, len(c.failures), strings.Count(out.String(), "FAILED:"))
			for _, name := range append(c.flakes, c.failures...) {
				assert.Contains(t, out.String(), name+"\n")
			}
		})
	}
}
