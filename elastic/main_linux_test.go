// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func([]string) int{
		"sleep": func([]string) int { time.Sleep(time.Hour); return 0 },
		"exit":  func([]string) int { return 0 },
		"spin":  func([]string) int { awaitInput(); spin(2); return 0 },
		"eat":   func(args []string) int { awaitInput(); return eat(args[0]) },
		"fork":  func([]string) int { awaitInput(); return fork() },
	})
}

// awaitInput waits until the test has put this process where it belongs.
func awaitInput() { _, _ = os.Stdin.Read(make([]byte, 1)) }

// spin keeps n CPUs busy until it is killed.
func spin(n int) {
	for range n {
		go func() {
			for x := 1; x != 0; x += 2 {
			}
		}()
	}
	select {}
}

// eat touches so many MiB and stays.
func eat(mib string) int {
	n, _ := strconv.Atoi(mib)
	var all [][]byte
	for range n {
		all = append(all, []byte(strings.Repeat("x", 1<<20)))
	}
	time.Sleep(time.Hour)
	return len(all)
}

// fork tries to start processes until one is refused, and stays.
func fork() int {
	for range 100 {
		p, err := os.StartProcess("/bin/sleep", []string{"sleep", "3600"}, &os.ProcAttr{})
		if err != nil {
			break
		}
		_ = p.Release()
	}
	time.Sleep(time.Hour)
	return 0
}
