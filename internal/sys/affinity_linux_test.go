// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAffinity(t *testing.T) {
	done := make(chan struct{})
	go func() { // on a thread that ends with it
		defer close(done)
		runtime.LockOSThread()
		all, err := Affinity(syscall.Gettid())
		if !assert.NoError(t, err) {
			return
		}
		assert.NotEqual(t, CPUMask{}, all)
		one := CPUMask{}
		for cpu := range 8192 {
			m := CPUMask{}
			if m.Set(cpu); m.Within(&all) {
				one = m
				break
			}
		}
		assert.NoError(t, SetAffinity(syscall.Gettid(), &one))
		got, err := Affinity(syscall.Gettid())
		assert.NoError(t, err)
		assert.Equal(t, one, got)
		assert.True(t, got.Within(&all))
	}()
	<-done
	_, err := Affinity(1 << 30)
	require.ErrorIs(t, err, syscall.ESRCH)
	var m CPUMask
	m.Set(-1)
	m.Set(1 << 20)
	assert.Equal(t, CPUMask{}, m, "numbers beyond the mask are left out")
}
