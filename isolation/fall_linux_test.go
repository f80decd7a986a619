// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/cgroups"
)

// hearing is a driver that remembers how memory limits were to fall.
type hearing struct {
	*nativeDriver
	heard []cgroups.Shrink
}

func (h *hearing) Update(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	h.heard = append(h.heard, cfg.Shrink)
	return h.nativeDriver.Update(ctx, c, r, cfg)
}

// TestHowMemoryFalls: the host's word counts in all that changes limits, but for
// UpdateWith.
func TestHowMemoryFalls(t *testing.T) {
	c := newClaimed(t, Config{Update: cgroups.UpdateConfig{Shrink: cgroups.Refuse}})
	d := &hearing{nativeDriver: c.driver.(*nativeDriver)}
	c.driver = d
	defer func() { c.driver = d.nativeDriver }()
	for name, change := range map[string]func() error{
		"update": func() error { _, err := c.Update(c.ctx(), pidsMax(60)); return err },
		"claim":  func() error { return c.take("a", 1, time.Minute, pidsMax(20)) },
		"drift": func() error {
			file := filepath.Join(c.top, c.Cgroup().Path(), "pids.max")
			if err := os.WriteFile(file, []byte("70"), 0); err != nil {
				return err
			}
			return c.reapply(c.ctx())
		},
		"unclaim": func() error { _, err := c.Unclaim(c.ctx(), "a"); return err },
		"expiry": func() error {
			err := c.take("b", 1, time.Minute, pidsMax(30))
			c.pass(time.Minute)
			assert.NotEqual(t, "30", c.pids())
			return err
		},
	} {
		c.drop("a")
		if name == "unclaim" {
			require.NoError(t, c.take("a", 1, time.Minute, pidsMax(20)))
		}
		d.heard = nil
		require.NoError(t, change(), name)
		require.NotEmpty(t, d.heard, name)
		for _, shrink := range d.heard {
			assert.Equal(t, cgroups.Refuse, shrink, name)
		}
	}
	c.drop("a")
	d.heard = nil
	_, err := c.UpdateWith(c.ctx(), pidsMax(61), cgroups.UpdateConfig{Shrink: cgroups.Force})
	require.NoError(t, err)
	assert.Equal(t, []cgroups.Shrink{cgroups.Force}, d.heard)
	_, err = Open(c.ctx(), Config{Root: t.TempDir(), Update: cgroups.UpdateConfig{Shrink: 9}})
	require.ErrorIs(t, err, ErrInvalid)
}
