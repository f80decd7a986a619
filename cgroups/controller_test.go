// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNamesSurviveJSON(t *testing.T) {
	type names struct {
		Mode        Mode
		Controller  Controller
		Controllers Controllers
		Pressure    PressureResource
		Events      EventKind
	}
	for c := range numControllers {
		for _, m := range []Mode{Unified, Legacy, Hybrid} {
			want := names{m, c, ControllersOf(c, ControllerMemory), PressureIO, EventState}
			raw, err := json.Marshal(want)
			require.NoError(t, err)
			var got names
			require.NoError(t, json.Unmarshal(raw, &got))
			assert.Equal(t, want, got)
		}
	}
	var none Controllers
	require.NoError(t, none.UnmarshalText(nil))
	assert.Zero(t, none)
	assert.ErrorIs(t, none.UnmarshalText([]byte("cpu,,io")), ErrInvalid)
	assert.ErrorIs(t, new(Controller).UnmarshalText([]byte("net_cls")), ErrInvalid)
	assert.ErrorIs(t, new(Mode).UnmarshalText([]byte("v2")), ErrInvalid)
	assert.ErrorIs(t, new(PressureResource).UnmarshalText([]byte("irq")), ErrInvalid)
	assert.ErrorIs(t, new(EventKind).UnmarshalText([]byte("memory")), ErrInvalid)
	io := new(Controller)
	require.NoError(t, io.UnmarshalText([]byte("blkio")))
	assert.Equal(t, ControllerIO, *io, "v1's name is known too")
}
