// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFileError(t *testing.T) {
	for _, tt := range []struct {
		err  FileError
		text string
	}{
		{FileError{Op: "write", Path: "/a/cpu.max", Data: "max 100000", Err: syscall.EINVAL}, `write "max 100000" to /a/cpu.max: invalid argument`},
		{FileError{Op: "parse", Path: "/a/cpu.stat", Data: "x", Err: errors.New("no number")}, `parse "x" from /a/cpu.stat: no number`},
		{FileError{Op: "mkdir", Path: "/a", Err: syscall.EEXIST}, `mkdir /a: file exists`},
		{FileError{Op: "write", Path: "/a", Data: strings.Repeat("x", 500), Err: syscall.E2BIG}, `write "` + strings.Repeat("x", 128) + `..." to /a: argument list too long`},
	} {
		assert.EqualError(t, &tt.err, tt.text)
		assert.ErrorIs(t, &tt.err, tt.err.Err)
	}
}

func TestIsGone(t *testing.T) {
	for err, gone := range map[error]bool{
		syscall.ENOENT: true, syscall.ENODEV: true, syscall.ESRCH: true,
		syscall.EBUSY: false, syscall.EINVAL: false, nil: false,
	} {
		assert.Equal(t, gone, IsGone(err), "%v", err)
		if err != nil {
			assert.Equal(t, gone, IsGone(&FileError{Op: "read", Path: "/a", Err: err}), "%v", err)
		}
	}
}
