// SPDX-License-Identifier: Apache-2.0

package ociruntime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// maxOutput is how much of what a runtime says is kept.
const maxOutput = 2 << 10

// drained is how long a runtime's output is read once it has ended: somebody else
// may have inherited the pipe.
const drained = time.Second

// lookup finds the runtime.
func (d *Driver) lookup() (string, error) {
	path, err := exec.LookPath(d.cfg.Binary)
	if err != nil {
		return "", &RuntimeError{Binary: d.cfg.Binary, Command: "look-up", Err: err}
	}
	return path, nil
}

// command is one call of the runtime about the container of b. It is killed with
// its context, and what it has started and left in its process group with it.
func (d *Driver) command(ctx context.Context, id, command string, args ...string) (*exec.Cmd, error) {
	path, err := d.lookup()
	if err != nil {
		return nil, err
	}
	line := append(append([]string{}, d.cfg.Args...), "--root", d.state(id), "--log", d.log(id), "--log-format", "json", command)
	cmd := exec.CommandContext(ctx, path, append(append(line, args...), id)...)
	cmd.Dir = d.bundle(id)
	// A runtime acts on some variables, such as LISTEN_FDS.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	// A runtime that outlived the agent would go on behind the back of the next one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drained
	return cmd, nil
}

// run runs a command, whose output goes into its error unless it has files for it.
func (d *Driver) run(ctx context.Context, id string, cmd *exec.Cmd, command string) error {
	var said bounded
	if cmd.Stdout == nil && cmd.Stderr == nil {
		cmd.Stdout, cmd.Stderr = &said, &said
	}
	// What an earlier call has logged is not this one's.
	if err := os.Remove(d.log(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// A container inherits from the thread that the runtime is born from: an ordinary
	// one, whatever the caller has done to its own.
	ran := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // whose end the runtime would take for the agent's
		defer runtime.UnlockOSThread()
		ran <- cmd.Run()
	}()
	err := <-ran
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &RuntimeError{Binary: d.cfg.Binary, Command: command, Output: printable(lastLogged(d.log(id)), said.String()), Err: err}
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxOutput-b.Len())])
	return len(p), nil
}

// lastLogged is the last error in a runtime's log. The log is what the runtime made
// of it.
func lastLogged(file string) string {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return ""
	}
	return logged(text)
}

// logged is the message of the last error of a log of JSON lines, or whatever the
// log ends with.
func logged(text []byte) (last string) {
	for line := range bytes.Lines(text) {
		var entry struct{ Level, Msg string }
		switch err := json.Unmarshal(line, &entry); {
		case err != nil:
			last = string(line)
		case entry.Level == "error" || entry.Level == "fatal":
			last = entry.Msg
		}
	}
	return last
}

// printable is the first of what is not empty, in one line.
func printable(texts ...string) string {
	for _, t := range texts {
		t = strings.ToValidUTF8(t[:min(len(t), maxOutput)], "")
		t = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, t))
		if t != "" {
			return t
		}
	}
	return ""
}

// Names of what is in a sandbox's directory. Ids are single path elements.
func (d *Driver) bundle(id string) string { return filepath.Join(d.cfg.Root, id) }
func (d *Driver) state(id string) string  { return filepath.Join(d.bundle(id), "state") }
func (d *Driver) log(id string) string    { return filepath.Join(d.bundle(id), "log") }
func (d *Driver) pid(id string) string    { return filepath.Join(d.bundle(id), "pid") }
func (d *Driver) rootfs(id string) string { return filepath.Join(d.bundle(id), "rootfs") }
func (d *Driver) upper(id string) string  { return filepath.Join(d.bundle(id), "upper") }
