// SPDX-License-Identifier: Apache-2.0

package ociruntime_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/ociruntime"
)

func TestConfigValidates(t *testing.T) {
	require.NoError(t, ociruntime.Config{Binary: "runc"}.Validate())
	for _, c := range []ociruntime.Config{{}, {Binary: "a\x00"}, {Binary: "runc", Root: "relative"}} {
		require.ErrorIs(t, c.Validate(), isolation.ErrInvalid)
		_, err := ociruntime.New(c)
		assert.Error(t, err)
	}
}

// An agent that has crun run some of its sandboxes.
func Example() {
	driver, err := ociruntime.New(ociruntime.Config{Binary: "crun", Subreaper: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer driver.Close()
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Drivers: map[string]isolation.Driver{"crun": driver}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	box, err := host.Create(ctx, isolation.Spec{
		ID: "web", Driver: "crun",
		Process: isolation.Process{Args: []string{"/bin/server"}},
		Root:    isolation.Root{Layers: []string{"/srv/images/web"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer box.Destroy(ctx)
	if err := box.Start(ctx); err != nil {
		fmt.Println(err)
	}
}
