// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// faults are those that a node agent meets, by the numbers that tests call them by:
// of crashes, of the state on disk, of ending processes, of cgroup files, of namespaces
// and networks, and of security.
var faults = map[int]string{
	1: "killed while creating", 2: "killed while updating", 3: "killed while destroying", 4: "killed while recovering",
	5: "killed together with what supervises", 6: "networks left behind", 7: "collecting what is alive", 8: "reboot",
	9: "pid reuse", 10: "changed configuration", 11: "unknown orphans", 12: "two agents", 13: "killed while frozen",
	14: "upgrade and downgrade", 15: "disk full", 16: "truncated, empty or garbage state",
	17: "state read-only, deleted or symlinked away", 18: "empty lease", 19: "clock jump, huge file, unknown fields and versions",

	20: "double-forked", 21: "fork bomb", 22: "frozen", 23: "frozen below by the workload", 24: "stopped and traced",
	25: "uninterruptible", 26: "zombies and late exits", 27: "groups of the workload", 28: "killed while ending",
	29: "destroyed twice, at once and while created", 30: "first process gone", 31: "dying groups",

	32: "update that fails half way", 33: "limit below what is in use", 34: "memory and swap in the wrong order",
	35: "more than the group above", 36: "no CPUs", 37: "group removed underneath", 38: "values that systemd takes back",
	39: "trees elsewhere, read-only or another's", 40: "controllers absent or elsewhere",
	41: "processes and threads above groups, full trees", 42: "group there already", 43: "values that the kernel changes",
	44: "interrupted and short calls, large pages", 45: "out of memory while starting", 46: "device programs",
	47: "no pressure, or less of it", 48: "garbage in statistics", 49: "many CPUs and nodes",

	50: "thread in the wrong namespace", 51: "interrupted dump", 52: "names and links that collide or vanish",
	53: "firewall locked, queue there already, module absent", 54: "swapped pin", 55: "no user namespaces",

	56: "descriptors and directory", 57: "the agent's binary", 58: "masked paths, devices and links", 59: "hostile ids",
	60: "labels as switches", 61: "output flooding", 62: "release_agent, inheritable capabilities, mount races",
}

// TestFaultsAreTested holds that the comment of some test names each of them: "(fault
// 9, pid reuse)", "(faults 1, 3 and 5)", "(faults 1 to 4)".
func TestFaultsAreTested(t *testing.T) {
	named := regexp.MustCompile(`\(faults? ([0-9][0-9, andto]*)`)
	span := regexp.MustCompile(`([0-9]+) to ([0-9]+)`)
	number := regexp.MustCompile(`[0-9]+`)
	tested := make(map[int]bool)
	for _, s := range sources(t) {
		if !s.isTest() {
			continue
		}
		for _, d := range s.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Doc == nil || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			text := strings.ReplaceAll(f.Doc.Text(), "\n", " ")
			for _, m := range named.FindAllStringSubmatch(text, -1) {
				for _, word := range number.FindAllString(m[1], -1) {
					n, _ := strconv.Atoi(word)
					tested[n] = true
				}
				for _, r := range span.FindAllStringSubmatch(m[1], -1) {
					from, _ := strconv.Atoi(r[1])
					to, _ := strconv.Atoi(r[2])
					for n := from; n <= to; n++ {
						tested[n] = true
					}
				}
			}
		}
	}
	for n, name := range faults {
		if !tested[n] {
			t.Errorf("no test's comment names fault %d, %s", n, name)
		}
	}
}
