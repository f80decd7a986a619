// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/elastic"
	"golang.org/x/sys/unix"
)

// noticeTable says how much later than a plain poll(2) in C the engine hears of
// the same thing. That is a process's end, which everybody may wait for; pressure
// and other events of the kernel come the same way.
func noticeTable(ctx context.Context, p *place, o options) (t *table, err error) {
	program, err := p.gcc("floor/poll.c")
	if errors.Is(err, errNotInstalled) {
		return &table{Name: "notice", Title: "Hear of what the kernel tells", Rows: []*row{{Name: "engine", Absent: err.Error()}}}, nil
	}
	if err != nil {
		return nil, err
	}
	plain := p.program(program)
	in, err := plain.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := plain.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := plain.Start(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close(), plain.Wait()) }()
	engine, err := elastic.NewEngine()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()

	said := bufio.NewScanner(out)
	var later []time.Duration
	rounds := 300
	if o.quick {
		rounds = 5
	}
	for range rounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := notice(engine, func(pid int) error {
			_, err := fmt.Fprintln(in, pid)
			return err
		}, said)
		if err != nil {
			return nil, err
		}
		later = append(later, d)
	}
	r := &row{Name: "the engine after poll(2) in C", Values: spread(later)}
	p95 := r.Values["p95"] / 1e3
	r.Bars = []bar{atMost("us", p95, 1000)}
	return &table{
		Name: "notice", Title: "Hear of what the kernel tells: the end of a process", Columns: []string{"median", "p95"}, Rows: []*row{r},
		Notes: []string{"Both wait for each end at the same time. Less than nothing: the engine came first. The bar is about the p95."},
	}, nil
}

// notice ends a process for which both wait.
func notice(engine *elastic.Engine, plain func(pid int) error, said *bufio.Scanner) (time.Duration, error) {
	pidfd := -1
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = unix.Close(pidfd)
	}()
	heard := make(chan time.Duration, 1)
	cancel, err := engine.OnExit(pidfd, func() { heard <- monotonic() })
	if err != nil {
		return 0, err
	}
	defer cancel()
	if err := plain(cmd.Process.Pid); err != nil {
		return 0, err
	}
	if !said.Scan() {
		return 0, errors.Join(errors.New("poll has ended"), said.Err())
	}
	time.Sleep(3 * time.Millisecond) // until it sleeps in the kernel
	if err := cmd.Process.Kill(); err != nil {
		return 0, err
	}
	ours := <-heard
	if !said.Scan() {
		return 0, errors.Join(errors.New("poll has ended"), said.Err())
	}
	theirs, err := strconv.ParseInt(strings.TrimSpace(said.Text()), 10, 64)
	return ours - time.Duration(theirs), err
}

func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it does not fail for this clock
	return time.Duration(now.Nano())
}
