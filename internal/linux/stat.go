// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// Stat is the part of /proc/PID/stat that tells processes apart.
type Stat struct {
	PID       int
	Comm      string // the name the process gave itself, up to 63 bytes of anything
	State     byte   // 'R', 'S', 'D', 'Z', ... of proc_pid_stat(5)
	PPID      int    // 0 if the parent is in another pid namespace, or there is none
	StartTime uint64 // clock ticks (1/100 s) from boot to the start of the process
	Exiting   bool   // its end has begun (PF_EXITING); a zombie's has too

	// BeforeExec says that it has executed no program since it was cloned
	// (PF_FORKNOEXEC), and that it blocks every signal: as a child of
	// internal/launch does until then, and hardly anybody else.
	BeforeExec bool
}

var errStat = errors.New("not a line of proc_pid_stat(5)")

// ParseStat parses the contents of /proc/PID/stat. After an error the Stat is
// zero.
func ParseStat(b []byte) (Stat, error) {
	// The name may hold any byte, parentheses and line feeds included, so it
	// ends at the last ") ": what follows are numbers and one letter.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndex(b, []byte(") "))
	if open < 2 || end < open || b[open-1] != ' ' {
		return Stat{}, errStat
	}
	const state, ppid, flags, start, blocked = 0, 1, 6, 19, 29 // after the name; fields 3, 4, 9, 22 and 32 of the manual
	f := bytes.Fields(b[end+2:])
	if len(f) <= start || len(f[state]) != 1 || !isLetter(f[state][0]) {
		return Stat{}, errStat
	}
	s := Stat{Comm: string(b[open+1 : end]), State: f[state][0]}
	var err1, err2, err3 error
	s.PID, err1 = parsePID(b[:open-1])
	s.PPID, err2 = parsePID(f[ppid])
	s.StartTime, err3 = strconv.ParseUint(string(f[start]), 10, 64)
	word, err4 := strconv.ParseUint(string(f[flags]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return Stat{}, errStat
	}
	const exiting, forkNoExec = 0x4, 0x40 // include/linux/sched.h
	s.Exiting = word&exiting != 0
	const all = 1<<31 - 1 - 1<<(9-1) - 1<<(19-1) // of the 31 that are told, without SIGKILL and SIGSTOP
	if word&forkNoExec != 0 && len(f) > blocked {
		mask, err := strconv.ParseUint(string(f[blocked]), 10, 64)
		s.BeforeExec = err == nil && mask == all
	}
	return s, nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func parsePID(b []byte) (int, error) {
	n, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil {
		return 0, err
	}
	return int(n), nil
}

// ParseFDInfoPID returns the line "Pid:" in the contents of /proc/PID/fdinfo/N
// of a pidfd: the process's pid, 0 if it has none in the pid namespace of this
// /proc, or -1 once it was waited for.
func ParseFDInfoPID(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
			text := bytes.TrimSpace(rest)
			if string(text) == "-1" {
				return -1, nil
			}
			return parsePID(text)
		}
	}
	return 0, errors.New("not a pidfd: no line \"Pid:\"")
}

// ParseBootID returns the contents of /proc/sys/kernel/random/boot_id, a UUID in
// lower case, without its line feed.
func ParseBootID(b []byte) (string, error) {
	const like = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	b = bytes.TrimSuffix(b, []byte("\n"))
	ok := len(b) == len(like)
	for i := 0; ok && i < len(like); i++ {
		digit := '0' <= b[i] && b[i] <= '9' || 'a' <= b[i] && b[i] <= 'f'
		ok = b[i] == '-' && like[i] == '-' || digit && like[i] != '-'
	}
	if !ok {
		return "", errors.New("not a UUID")
	}
	return string(b), nil
}

func parseError(path string, b []byte, err error) error {
	return &kernfs.FileError{Op: "parse", Path: path, Data: string(b), Err: err}
}
