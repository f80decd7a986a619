// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Workload does what this package has a sandbox do, if this process was started for
// that; then ok is true, and the process is to end with the code. Call it first in
// TestMain.
func Workload() (code int, ok bool) {
	asked.Store(true)
	if len(os.Args) < 4 || os.Args[1] != mark {
		return 0, false
	}
	args := os.Args[4:]
	switch does := os.Args[3]; does {
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			code = 125
		}
		return code, true
	case "echo":
		return echo(), true
	case "say":
		fmt.Println(args[0])
		fmt.Fprintln(os.Stderr, args[0])
		return 0, true
	case "wait":
		return pause(), true
	case "deaf":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
		return pause(), true
	case "handle":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		fmt.Println("ready")
		<-ctx.Done()
		return 3, true
	case "spin":
		spin()
		return 0, true
	case "orphans":
		return orphans(), true
	case "rabbits":
		return rabbits(), true
	case "rabbit":
		succeed()
		return 0, true
	case "leave":
		_, err := again("wait")
		return exitOf(err), true
	case "pulse", "cpu", "memory", "cache", "disk", "fork":
		j, err := parseJob(does, args)
		if err == nil {
			err = j.run()
		}
		return exitOf(err), true
	default:
		fmt.Fprintf(os.Stderr, "no workload %q\n", does)
		return 125, true
	}
}

func exitOf(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	return 0
}

// pause waits for a signal. (An empty select ends a program without other
// goroutines.)
func pause() int {
	<-time.After(time.Hour)
	return 124
}

// again starts this program once more, in a session of its own.
func again(does string, args ...string) (*os.Process, error) {
	return os.StartProcess("/proc/self/exe", append([]string{os.Args[0], mark, os.Args[2], does}, args...), &os.ProcAttr{
		Files: []*os.File{nil, nil, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
}

// echo repeats its input to its output, a word to its standard error, and to descriptor
// 3 its environment, its directory and whether the other three block and can be opened
// again.
func echo() int {
	blocks := "blocking"
	for fd := range 3 {
		flags, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
		if errno != 0 || flags&syscall.O_NONBLOCK != 0 {
			blocks = fmt.Sprintf("descriptor %d does not block: %#x %v", fd, flags, errno)
		}
		again, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), int(flags)&syscall.O_ACCMODE, 0)
		if err != nil {
			blocks = err.Error()
			continue
		}
		_ = again.Close()
	}
	_, err := io.Copy(os.Stdout, os.Stdin)
	if err == nil {
		_, err = fmt.Fprint(os.Stderr, "error")
	}
	if extra := os.NewFile(3, "3"); err == nil && extra != nil {
		dir, _ := os.Getwd()
		_, err = fmt.Fprintf(extra, "%s %s %s", os.Getenv("SAID"), dir, blocks)
	}
	return exitOf(err)
}

// orphans has a child that has a child of its own and ends.
func orphans() int {
	child, err := again("leave")
	if err == nil {
		_, err = child.Wait()
	}
	if err != nil {
		return exitOf(err)
	}
	return pause()
}

// succeed starts a rabbit, as soon as the machine has a process left for it.
func succeed() {
	for {
		if _, err := again("rabbit"); err == nil {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// rabbits starts processes each of which starts its successor and ends, so that
// none is there for long. It reaps those that are left to it: all of them also
// where it is not the first of a pid namespace.
func rabbits() int {
	const prSetChildSubreaper = 36
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	if errno != 0 {
		return exitOf(errno)
	}
	for range 4 {
		succeed()
	}
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err == syscall.ECHILD {
			return pause()
		}
	}
}
