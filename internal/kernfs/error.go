// SPDX-License-Identifier: Apache-2.0

package kernfs

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
)

// FileError says which operation on which kernel file failed, and with which
// data. It is an os.PathError that also keeps what was refused.
type FileError struct {
	Op   string // "open", "read", "write", "mkdir", "rmdir", "parse"
	Path string // the file's full path as the caller sees it
	Data string // what was written, or what could not be parsed; may be empty
	Err  error  // the errno, or why the data makes no sense
}

// Error reads `write "max 100000" to /sys/fs/cgroup/a/cpu.max: invalid argument`.
func (e *FileError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteByte(' ')
	if e.Data != "" {
		data := e.Data
		const most = 128
		if len(data) > most {
			data = data[:most] + "..."
		}
		b.WriteString(strconv.Quote(data))
		if e.Op == "write" {
			b.WriteString(" to ")
		} else {
			b.WriteString(" from ")
		}
	}
	b.WriteString(e.Path)
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Err }

// IsGone reports whether err says that the object itself no longer exists: its
// directory was removed (ENOENT when opening, ENODEV when reading or writing a
// held file) or its process has ended (ESRCH).
func IsGone(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ESRCH)
}
