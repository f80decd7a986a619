// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

const childMark = "caisson-test-child"

// Main is the body of a TestMain whose test binary also serves as the workload
// of its tests: started with the arguments that [ChildArgs] makes, it runs the
// named function and exits with its result; otherwise it runs the tests.
//
//	func TestMain(m *testing.M) {
//		testutil.Main(m, map[string]func(args []string) int{"hog": hog})
//	}
func Main(m *testing.M, children map[string]func(args []string) int) {
	if len(os.Args) >= 3 && os.Args[1] == childMark {
		child, ok := children[os.Args[2]]
		if !ok {
			fmt.Fprintf(os.Stderr, "no child %q in this test binary\n", os.Args[2])
			os.Exit(125)
		}
		os.Exit(child(os.Args[3:]))
	}
	os.Exit(m.Run())
}

// ChildArgs returns the argument vector, the absolute path of the program
// first, that makes this test binary run the child which [Main] knows by name.
// It needs no environment, so any launcher can start it.
func ChildArgs(tb testing.TB, name string, args ...string) []string {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return append([]string{exe, childMark, name}, args...)
}

// Child returns a command, not started, for the child which [Main] knows by
// name. When the test ends it is killed, if it still runs, and reaped.
func Child(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	argv := ChildArgs(tb, name, args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	tb.Cleanup(func() {
		if cmd.Process != nil && cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}
