// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"slices"
	"strings"
	"testing"
)

// below lists what the packages under each folder may import of this module,
// besides what is in that folder itself. Imports point down only.
var below = map[string][]string{
	"internal":      nil,
	"cgroups":       {"internal"},
	"namespaces":    {"internal"},
	"netns":         {"namespaces", "internal"},
	"elastic":       {"cgroups", "internal"},
	"isolation":     {"elastic", "netns", "cgroups", "namespaces", "internal"},
	"isolationtest": {"isolation", "elastic", "netns", "cgroups", "namespaces", "internal"},
	"examples":      {"isolationtest", "isolation", "elastic", "netns", "cgroups", "namespaces"},
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.top() == "test" {
			continue
		}
		allowed, ok := below[s.top()]
		if !ok {
			t.Errorf("%s: the architecture has no folder %s", s.path, s.top())
			continue
		}
		for _, p := range s.imports() {
			to, ours := strings.CutPrefix(p, module+"/")
			folder, _, _ := strings.Cut(to, "/")
			if ours && folder != s.top() && !slices.Contains(allowed, folder) {
				t.Errorf("%s imports %s; %s may import only %v", s.path, p, s.top(), allowed)
			}
		}
	}
}

// loadGenerator is part of a measurement and not of what embedders copy: it calls
// the kernel past Go's scheduler, so that its runtime is not felt by what it
// measures, and nothing outside of internal offers that.
const loadGenerator = "examples/colocate/load_linux.go"

func TestRawSystemCallsAreInternal(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.top() == "internal" || s.top() == "test" || s.path == loadGenerator {
			continue
		}
		for _, p := range s.imports() {
			if p == "golang.org/x/sys/unix" || p == "unsafe" {
				t.Errorf("%s imports %s, which belongs under internal", s.path, p)
			}
		}
	}
}

func TestTestCodeStaysInTests(t *testing.T) {
	only := []string{
		module + "/internal/testutil", "testing", "go.uber.org/goleak",
		"github.com/stretchr/testify/require", "github.com/stretchr/testify/assert",
	}
	for _, s := range sources(t) {
		if !s.isLibrary() || s.top() == "isolationtest" || strings.HasSuffix(s.dir(), "test") {
			continue
		}
		for _, p := range s.imports() {
			if slices.Contains(only, p) {
				t.Errorf("%s imports %s outside of a test", s.path, p)
			}
		}
	}
}

func TestLibraryNeverLogs(t *testing.T) {
	for _, s := range sources(t) {
		for _, p := range s.imports() {
			if s.isLibrary() && (p == "log" || strings.HasPrefix(p, "log/") || p == "C") {
				t.Errorf("%s imports %s", s.path, p)
			}
		}
	}
}
