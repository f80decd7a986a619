// SPDX-License-Identifier: Apache-2.0

// Caisson runs work in sandboxes, changes their limits while they run, watches
// and measures them: a small command over the library, to try it and to drive
// it from scripts.
//
// Every invocation is a process of its own: a sandbox that create has started
// is found again through the state directory (--root) and the kernel.
//
// # Exit status
//
//	0   done
//	1   failed; one line on standard error says what and why
//	2   the command line makes no sense; nothing was touched
//	3   there is no sandbox with this id
//
// run passes on the status of its workload, 128+n if signal n ended it. Its own
// failures are 125, 126 if the program cannot be executed and 127 if it is not
// there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/netns/nft"
)

// The exit statuses besides those of workloads.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3

	exitRunFailed     = 125
	exitRunPermission = 126
	exitRunNotFound   = 127
)

// app is one invocation: where it reads and writes, and what every command
// understands.
type app struct {
	stdin, stdout, stderr *os.File

	config isolation.Config
	json   bool
	bundle string // the OCI bundle to make a sandbox of

	publish, masquerade bool // what the command line wants of the firewall
	supervise           bool // programs are the supervisor's children
}

// command is one word of the command line.
type command struct {
	name, args, does string

	// setup defines the command's flags and returns what runs it once they
	// are parsed: ids are the arguments before "--", argv what follows it.
	setup func(a *app, fs *flag.FlagSet) func(ctx context.Context, ids, argv []string) error
}

func commands() []command {
	return []command{
		{"doctor", "", "say what this machine offers, and what follows from it", doctorCommand},
		{"run", "ID -- PROGRAM [ARG]...", "run a program in a sandbox, pass on its exit status, and destroy the sandbox", runCommand},
		{"create", "ID -- PROGRAM [ARG]...", "start a program in a sandbox and leave it running", createCommand},
		{"exec", "ID -- PROGRAM [ARG]...", "run one more program in a running sandbox, and pass on its exit status", execCommand},
		{"adopt", "ID", "take charge of a container that somebody else started: its limits, never its life", adoptCommand},
		{"release", "ID", "let go of an adopted container, which runs on", releaseCommand},
		{"update", "ID", "change limits of a running sandbox: all that are named, or none", updateCommand},
		{"stat", "[ID]...", "measure sandboxes", statCommand},
		{"watch", "ID", "tell of pressure, lack of memory, limits hit and the exit, as they happen", watchCommand},
		{"logs", "ID", "print what a sandbox made with --logs has written", logsCommand},
		{"events", "[ID]...", "tell what has happened to sandboxes, also to those that are gone", eventsCommand},
		{"list", "", "list the sandboxes", listCommand},
		{"check", "ID", "tell the truth about one sandbox", checkCommand},
		{"explain", "ID", "say what a sandbox really gets, and whose limit that is", explainCommand},
		{"destroy", "ID...", "end every process of sandboxes and leave nothing of them", destroyCommand},
		{"supervise", "", "be the parent of programs that --supervise has asked for; not to be started by hand", superviseCommand},
		{"clean", "", "take away the parent group and the state directory, once no sandbox is left", cleanCommand},
	}
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == doctorChild {
		os.Exit(waitForDoctor(os.Stdin))
	}
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.main(os.Args[1:]))
}

// main runs one command line and returns the exit status.
func (a *app) main(args []string) int {
	name, args, err := a.globals(args)
	if err != nil || name == "" {
		return a.exit(name, err)
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		if name == "run" || name == "supervise" {
			return a.exit(name, a.dispatch(context.Background(), c, args)) // passes signals on, or ends by them
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return a.exit(name, a.dispatch(ctx, c, args))
	}
	return a.exit("", usagef("no command %q; caisson help lists them", name))
}

// globals takes the flags in front of the command's name. An empty name means
// that there is nothing left to do.
func (a *app) globals(args []string) (name string, rest []string, err error) {
	fs := a.flagSet("caisson")
	err = fs.Parse(args)
	if err == nil && fs.Arg(0) == "help" && fs.NArg() == 2 {
		return fs.Arg(1), []string{"--help"}, nil
	}
	if errors.Is(err, flag.ErrHelp) || err == nil && fs.Arg(0) == "help" {
		return "", nil, printHelp(a.stdout, fs)
	}
	if err != nil {
		return "", nil, &usageError{err}
	}
	if fs.NArg() == 0 {
		return "", nil, usagef("no command; caisson help lists them")
	}
	return fs.Arg(0), fs.Args()[1:], nil
}

// flagSet has the flags that every command understands.
func (a *app) flagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&a.config.Root, "root", a.config.Root, "`DIR` with the state of the sandboxes; by default /run/caisson, or for an ordinary user caisson in XDG_RUNTIME_DIR")
	fs.StringVar(&a.config.Parent, "parent", a.config.Parent, "`GROUP` below which each sandbox gets its own; caisson by default")
	fs.StringVar(&a.config.CgroupMount, "cgroup-mount", a.config.CgroupMount, "`DIR` with the cgroup file systems; /sys/fs/cgroup by default")
	fs.BoolVar(&a.config.Ungrouped, "ungrouped", a.config.Ungrouped, "where no cgroup can be made, do without, and so without limits, figures and freezing")
	fs.BoolVar(&a.json, "json", a.json, "print JSON")
	return fs
}

func (a *app) dispatch(ctx context.Context, c command, args []string) error {
	fs := a.flagSet(c.name)
	run := c.setup(a, fs)
	ids, argv, err := parse(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		printCommandHelp(a.stdout, c, fs)
		return nil
	}
	if err != nil {
		return usagef("%w; caisson %s --help lists the flags", err, c.name)
	}
	if len(argv) > 0 && !strings.Contains(c.args, "PROGRAM") {
		return usagef("%s runs no program", c.name)
	}
	return run(ctx, ids, argv)
}

// host opens the sandboxes of the state directory, beside other invocations.
func (a *app) host(ctx context.Context) (*host, error) {
	cfg := a.config
	cfg.Shared, cfg.Journal = true, journalSize
	if dir := os.Getenv("XDG_RUNTIME_DIR"); cfg.Root == "" && os.Geteuid() != 0 && dir != "" {
		cfg.Root = filepath.Join(dir, "caisson")
	}
	h := &host{}
	var err error
	if a.supervise {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cfg.Supervisor = []string{exe, "supervise"}
	}
	if h.firewall, err = a.firewall(ctx); err != nil {
		return nil, err
	}
	if h.firewall != nil {
		cfg.Network.Firewall = h.firewall
	}
	if h.Host, err = isolation.Open(ctx, cfg); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// host is one that may have a firewall.
type host struct {
	*isolation.Host
	firewall *nft.Firewall
}

// Close frees both.
func (h *host) Close() error {
	var errs []error
	if h.Host != nil {
		errs = append(errs, h.Host.Close())
	}
	if h.firewall != nil {
		errs = append(errs, h.firewall.Close())
	}
	return errors.Join(errs...)
}

// sandbox finds one sandbox; done closes what was opened for it.
func (a *app) sandbox(ctx context.Context, id string) (sb *isolation.Sandbox, done func() error, err error) {
	host, err := a.host(ctx)
	if err != nil {
		return nil, nil, err
	}
	if sb, err = host.Sandbox(ctx, id); err != nil {
		return nil, nil, errors.Join(err, host.Close())
	}
	return sb, host.Close, nil
}

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// workloadStatus passes on how a workload ended.
type workloadStatus int

func (s workloadStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// runError is a failure of run itself, with its own exit status.
type runError struct {
	code int
	err  error
}

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// exit tells what went wrong, in one line, and returns the exit status.
func (a *app) exit(command string, err error) int {
	var (
		status workloadStatus
		usage  *usageError
		run    *runError
	)
	if err == nil {
		return 0
	}
	if errors.As(err, &status) {
		return int(status)
	}
	prefix := "caisson: "
	if command != "" && !strings.HasPrefix(err.Error(), command+" ") {
		prefix += command + ": "
	}
	fmt.Fprintln(a.stderr, prefix+oneLine(err))
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &run):
		return run.code
	case errors.Is(err, isolation.ErrNotFound):
		return exitNotFound
	}
	return exitFailed
}

// oneLine flattens joined errors, and names flags as they are written here.
func oneLine(err error) string {
	s := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return strings.NewReplacer("flag -", "flag --", "not defined: -", "not defined: --", "argument: -", "argument: --").Replace(s)
}
