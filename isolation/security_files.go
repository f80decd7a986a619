// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/caisson-run/caisson/internal/launch"
)

// FileRule says what the processes of a sandbox may do with one file, or with a
// directory and all below it.
type FileRule struct {
	// Path is what they find there when the root is whole, links followed: what is
	// made in its place later is something else. It has to exist.
	Path   string     `json:"path"`
	Access FileAccess `json:"access"`
}

// FileAccess is a set of what may be done with a file; "rwx" as text.
type FileAccess uint8

// The members of a [FileAccess].
const (
	// FileRead is to open for reading, and to list a directory.
	FileRead FileAccess = 1 << iota
	// FileWrite is to open for writing, to truncate, to make, rename and remove what
	// is in a directory, and ioctl(2) on a device.
	FileWrite
	// FileExecute is to execute. What a program is linked with takes FileRead, its
	// interpreter both.
	FileExecute

	allAccess = FileRead | FileWrite | FileExecute
)

const accessLetters = "rwx"

// String is the letters of the set, "" if it is empty.
func (a FileAccess) String() string {
	if a&^allAccess != 0 {
		return "access(" + strconv.Itoa(int(a)) + ")"
	}
	var b strings.Builder
	for i := range accessLetters {
		if a&(1<<i) != 0 {
			b.WriteByte(accessLetters[i])
		}
	}
	return b.String()
}

// MarshalText is [FileAccess.String].
func (a FileAccess) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what [FileAccess.String] writes.
func (a *FileAccess) UnmarshalText(text []byte) error {
	var set FileAccess
	for _, c := range text {
		i := strings.IndexByte(accessLetters, c)
		if i < 0 || set&(1<<i) != 0 {
			return &InvalidError{Field: "access", Value: clip(string(text)), Reason: "not letters of rwx, each at most once"}
		}
		set |= 1 << i
	}
	*a = set
	return nil
}

// maxFileRules bounds what a start does; the kernel takes more.
const maxFileRules = 128

func (s Security) validateFiles() (errs []error) {
	bad := func(field, value, reason string) {
		errs = append(errs, &InvalidError{Field: "security.files" + field, Value: clip(value), Reason: reason})
	}
	if len(s.Files) > maxFileRules {
		bad("", strconv.Itoa(len(s.Files)), "more than "+strconv.Itoa(maxFileRules))
	}
	if len(s.Files) > 0 && s.Landlock == Off {
		bad("", strconv.Itoa(len(s.Files)), "they are Landlock's, which is off")
	}
	for _, r := range s.Files {
		if !path.IsAbs(r.Path) || path.Clean(r.Path) != r.Path || strings.IndexByte(r.Path, 0) >= 0 {
			bad(".path", r.Path, "not a clean absolute path")
		}
		if r.Access == 0 || r.Access&^allAccess != 0 {
			bad(".access", r.Access.String(), "not a set of r, w and x")
		}
	}
	return errs
}

// fileLimits are what the rules for files do not hold on older kernels.
var fileLimits = []struct {
	version int // of Landlock's interface
	lacks   string
}{
	{2, "no file can be renamed or linked from one directory to another before Linux 5.19"},
	{3, "truncate(2) is held by no rule before Linux 6.2"},
	{5, "ioctl(2) on devices is held by no rule before Linux 6.10"},
}

// filesLack is what rules for files do otherwise on a kernel with this version of
// Landlock's interface, and an error if it has none, or if the spec does not do without.
func (s Security) filesLack(version int) (lacks []string, err error) {
	if len(s.Files) == 0 {
		return nil, nil
	}
	if version < 1 {
		return nil, &UnsupportedError{Feature: "security.files", Since: "Linux 5.13", Reason: "this kernel has no Landlock, or has it turned off"}
	}
	for _, l := range fileLimits {
		if version < l.version {
			lacks = append(lacks, "security.files: "+l.lacks)
		}
	}
	if len(lacks) > 0 && s.Landlock == On {
		return nil, &UnsupportedError{Feature: "security.files", Reason: strings.Join(lacks, "; ")}
	}
	return lacks, nil
}

// protectFiles is what Protections says of them.
func (s Security) protectFiles() Protection {
	p := Protection{Name: "file rules", Why: "the spec has none: what the processes may do with files is what their ids may"}
	if len(s.Files) == 0 {
		return p
	}
	lacks, err := s.filesLack(launch.Landlock())
	if err != nil {
		p.Why = err.Error()
		return p
	}
	p.InForce = true
	p.Why = fmt.Sprintf("%d paths, and nothing else can be read, written or executed", len(s.Files))
	for _, l := range lacks {
		p.Why += "; " + l
	}
	return p
}

func (s Security) launchFiles() (list []launch.FileRule) {
	for _, r := range s.Files {
		list = append(list, launch.FileRule{
			Path: r.Path, Read: r.Access&FileRead != 0, Write: r.Access&FileWrite != 0, Execute: r.Access&FileExecute != 0,
		})
	}
	return list
}
