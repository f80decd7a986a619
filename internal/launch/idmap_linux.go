// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caisson-run/caisson/internal/feature"
)

// writeProc writes text to /proc/PID/file in one write, as the files of a user
// namespace want it. An os.File would take twice as many calls, to be polled, and
// the child waits meanwhile.
func writeProc(pid int, file, text string) error {
	op, path := "open", fmt.Sprintf("/proc/%d/%s", pid, file)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		op = "write"
		_, err = unix.Write(fd, []byte(text))
		_ = unix.Close(fd) // what counts is what write said
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", text, &os.PathError{Op: op, Path: path, Err: err})
	}
	return nil
}

// WriteIDMaps fills the user namespace of a process, which has no maps yet, with
// the text of both. Without setgroups, setgroups(2) is forbidden in there first.
func WriteIDMaps(pid int, uids, gids string, setgroups bool) error {
	return writeMaps(pid, mapFiles(uids, gids, setgroups))
}

// mapFile is what is written of a user namespace: "setgroups", or the map of "uid"
// or "gid".
type mapFile struct{ name, data string }

const setgroupsFile = "setgroups"

func mapFiles(uids, gids string, setgroups bool) (list []mapFile) {
	if !setgroups {
		list = append(list, mapFile{setgroupsFile, "deny"})
	}
	return append(list, mapFile{"uid", uids}, mapFile{"gid", gids})
}

func writeMaps(pid int, list []mapFile) (err error) {
	for _, m := range list {
		if m.name == setgroupsFile {
			err = writeProc(pid, m.name, m.data)
		} else {
			err = writeIDMap(pid, m.name, m.data)
		}
		if err != nil {
			return refusedMap(err)
		}
	}
	return nil
}

// writeIDMap fills the "uid" or "gid" map of the user namespace of a process: by
// itself or, where the kernel lets this user map his own id alone, by newuidmap(1)
// or newgidmap(1), which know which further ids an administrator has given him.
// Neither is an error that matches [ErrNotSupported].
func writeIDMap(pid int, kind, text string) error {
	refused := writeProc(pid, kind+"_map", text)
	if !errors.Is(refused, unix.EPERM) {
		return refused
	}
	program, err := exec.LookPath(IDMapper(kind))
	if err != nil {
		return &feature.UnsupportedError{
			Feature: fmt.Sprintf("%s map %q", kind, strings.TrimSpace(text)),
			Reason:  "an ordinary user maps his own id, or has the program " + IDMapper(kind), Err: refused,
		}
	}
	said, err := runMapper(program, append([]string{strconv.Itoa(pid)}, strings.Fields(text)...))
	if err != nil {
		return &feature.UnsupportedError{
			Feature: fmt.Sprintf("%s map %q", kind, strings.TrimSpace(text)),
			Reason:  strings.Join(strings.Fields(said), " "), Err: fmt.Errorf("%s: %w, after %w", program, err, refused),
		}
	}
	return nil
}

// runMapper runs a program that takes milliseconds, or asks a directory service
// who has which ids. It is a launch of our own and what it says goes to memory:
// a pipe, such as os/exec has them, could be held open by other children that are
// waiting for their maps in turn.
func runMapper(program string, args []string) (said string, err error) {
	const most = 4096
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer null.Close()
	memory, err := unix.MemfdCreate("idmapper", unix.MFD_CLOEXEC)
	if err != nil {
		return "", os.NewSyscallError("memfd_create", err)
	}
	out := os.NewFile(uintptr(memory), "idmapper")
	defer out.Close()
	p, err := Compile(Spec{Path: program, Args: append([]string{program}, args...), Files: []int{int(null.Fd()), memory, memory}})
	if err != nil {
		return "", err
	}
	c, err := p.Start(ctx)
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.PidfdSendSignal(c.PIDFD.Int(), unix.SIGKILL, nil, 0) })
	status, err := c.Wait()
	stop()
	text, rerr := io.ReadAll(io.NewSectionReader(out, 0, most))
	switch {
	case errors.Is(err, unix.ECHILD): // the agent reaps whatever child it sees; what was said tells
		err = nil
		if len(text) > 0 {
			err = syscall.EPERM
		}
	case err == nil && status.Signal != 0:
		err = &Killed{status.Signal}
	case err == nil && status.Code != 0:
		err = fmt.Errorf("exit status %d", status.Code)
	}
	return string(text), errors.Join(err, rerr, c.PIDFD.Close())
}

// IDMapper is the name of the program that maps ids of this kind.
func IDMapper(kind string) string { return "new" + kind + "map" }
