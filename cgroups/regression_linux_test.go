// SPDX-License-Identifier: Apache-2.0

package cgroups_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kernel is the test machine, below a group of the test's own.
type kernel struct {
	root *cgroups.Root
	base string
}

func (k kernel) Root() *cgroups.Root { return k.root }
func (kernel) Writes() []string      { return nil }

// Tree is what the files that can be written and read hold.
func (k kernel) Tree() string {
	mounts, err := testutil.CgroupMounts()
	if err != nil {
		return err.Error()
	}
	volatile := []string{"pressure", "reclaim", "usage", "kmem", "tasks", ".peak", "failcnt", "cgroup.procs", "cgroup.threads", "oom_control"}
	var b strings.Builder
	for _, m := range mounts {
		_ = filepath.WalkDir(filepath.Join(m.Path, k.base), func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || slices.ContainsFunc(volatile, func(s string) bool { return strings.Contains(d.Name(), s) }) {
				return nil //nolint:nilerr // gone since
			}
			if info, err := d.Info(); err == nil && info.Mode()&0o600 == 0o600 {
				if text, err := os.ReadFile(p); err == nil {
					b.WriteString(p + ": " + string(text))
				}
			}
			return nil
		})
	}
	return b.String()
}

// TestRegressionKernel runs the regressions that any machine can have on this
// one's kernel.
func TestRegressionKernel(t *testing.T) {
	testutil.Require(t, testutil.Root)
	burst := cgroups.Resources{CPU: cgroups.CPU{Burst: cgroups.DurationOf(0)}}
	swap := cgroups.Resources{Memory: cgroups.Memory{Max: cgroups.Bytes(64 * mib), Swap: cgroups.Bytes(0)}}
	for _, r := range []struct {
		thread string
		needs  cgroups.Resources
		run    func(*testing.T, machine, *cgroups.Cgroup)
	}{
		{"runc-2456", burst.Merge(swap), partialUpdate},
		{"runc-4210", burst.Merge(swap), burstStays},
		{"koordinator-2778", burst, burstAboveQuota},
		{"koordinator-2732", cgroups.Resources{CPU: cgroups.CPU{Idle: cgroups.Off}}, idleWeight},
		{"runc-2410", burst.Merge(swap), absentValues},
		{"runc-2876", cgroups.Resources{}, devicesRepeated},
		{"runc-592", swap, memoryAndSwap},
		{"runc-2044", cgroups.Resources{}, quotaAgainstParent},
		{"runc-1635", cgroups.Resources{CPUSet: cgroups.CPUSet{CPUs: cgroups.SetOf(0, 1)}}, nestedCPUSets},
		{"k8s-138187", burst.Merge(swap), clearLimits},
		{"lxd-13192", cgroups.Resources{}, highStays},
		{"runc-4841", cgroups.Resources{}, pages},
	} {
		t.Run(r.thread, func(t *testing.T) {
			testutil.CheckLeaks(t)
			root, err := cgroups.Open("")
			require.NoError(t, err)
			defer root.Close()
			base, err := root.Create(testutil.CgroupName(t), 0)
			require.NoError(t, err)
			defer func() {
				ctx, cancel := context.WithTimeout(context.Background(), testutil.Patience(10*time.Second))
				defer cancel()
				assert.NoError(t, base.Remove(ctx))
				assert.NoError(t, base.Close())
			}()
			web, err := root.Create(base.Path()+"/web", 0)
			require.NoError(t, err)
			defer web.Close()
			if _, err := web.Plan(r.needs); errors.Is(err, cgroups.ErrNotSupported) {
				t.Logf("this kernel cannot have it: %v", err)
				return
			}
			r.run(t, kernel{root, base.Path()}, web)
		})
	}
}
