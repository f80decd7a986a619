// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
)

// parse reads flags wherever they stand among the arguments, up to "--".
func parse(fs *flag.FlagSet, args []string) (ids, argv []string, err error) {
	if i := slices.Index(args, "--"); i >= 0 {
		args, argv = args[:i], args[i+1:]
	}
	for {
		if err := fs.Parse(args); err != nil {
			return nil, nil, err
		}
		if fs.NArg() == 0 {
			return ids, argv, nil
		}
		ids, args = append(ids, fs.Arg(0)), fs.Args()[1:]
	}
}

// one is the id of a command that takes exactly one.
func one(ids []string) (string, error) {
	switch len(ids) {
	case 0:
		return "", usagef("no id to say which sandbox; caisson COMMAND --help tells more")
	case 1:
		return ids[0], nil
	}
	return "", usagef("one id is enough, got also %q (a program goes behind --)", ids[1])
}

// value is a flag that a type of the library reads itself. Its zero value means
// "not given", so nothing is refused.
func value(fs *flag.FlagSet, name string, to encoding.TextUnmarshaler, usage string) {
	fs.Func(name, usage, func(s string) error {
		if s == "" {
			return errors.New("empty")
		}
		return to.UnmarshalText([]byte(s))
	})
}

// specFlags are the flags of run and create besides the limits.
func specFlags(fs *flag.FlagSet, spec *isolation.Spec) {
	labelFlag(fs, &spec.Labels, "`KEY=VALUE` to find the sandbox by; may be repeated")
	value(fs, "class", &spec.Class, "standard, latency-critical or best-effort: the `CLASS` that ranks the sandbox against others")
	fs.StringVar(&spec.Hostname, "hostname", "", "`NAME` of the machine inside; the id by default")
	processFlags(fs, &spec.Process)
	fs.BoolVar(&spec.Process.Reaper, "init", false, "have a small process of caisson's be the first, which reaps and passes on signals")
	namespaceFlags(fs, &spec.Namespaces)
	fs.BoolVar(&spec.Subgroups, "subgroups", false, "let exec have limits on cgroup v2, where the program has to be one group lower for that")
	rootFlags(fs, &spec.Root)
	netFlags(fs, spec)
}

// processFlags are the flags of every program.
func processFlags(fs *flag.FlagSet, p *isolation.Process) {
	fs.StringVar(&p.Dir, "dir", "", "working `DIR`; / by default")
	fs.Func("env", "`NAME=VALUE` of the environment, or NAME alone to pass on the caller's; may be repeated", func(s string) error {
		e, err := parseEnv(s, os.LookupEnv)
		p.Env = append(p.Env, e...)
		return err
	})
	fs.Func("user", "`UID[:GID]` to run as; GID is UID by default", func(s string) (err error) {
		p.User, err = parseUser(s)
		return err
	})
	fs.Func("cap", "`CAP_NAME,...` to keep, none, or ALL; what containers usually have by default", func(s string) error {
		p.Capabilities = parseCapabilities(s)
		return nil
	})
	fs.Func("rlimit", "`NAME=SOFT[:HARD]` as prlimit(1) names it; may be repeated", func(s string) error {
		r, err := parseRlimit(s)
		p.Rlimits = append(p.Rlimits, r)
		return err
	})
	fs.BoolVar(&p.NewPrivileges, "new-privileges", false, "let set-user-id programs gain privileges")
}

func namespaceFlags(fs *flag.FlagSet, n *isolation.Namespaces) {
	kinds := []struct {
		name string
		mode *isolation.NamespaceMode
	}{
		{"pid", &n.PID}, {"mount", &n.Mount}, {"ipc", &n.IPC}, {"uts", &n.UTS}, {"net", &n.Network},
		{"cgroup", &n.Cgroup}, {"user", &n.User}, {"time", &n.Time},
	}
	fs.Func("ns", "`KIND=new|host,...` of pid, mount, ipc, uts, net, cgroup, user, time; net, user and time are the host's by default", func(s string) error {
		for part := range strings.SplitSeq(s, ",") {
			kind, mode, _ := strings.Cut(part, "=")
			i := slices.IndexFunc(kinds, func(k struct {
				name string
				mode *isolation.NamespaceMode
			}) bool {
				return k.name == kind
			})
			if i < 0 || mode == "" {
				return fmt.Errorf("%q is not KIND=MODE such as net=new", part)
			}
			if err := kinds[i].mode.UnmarshalText([]byte(mode)); err != nil {
				return err
			}
		}
		return nil
	})
	idMap := func(name string, to *namespaces.IDMaps, whose string) {
		fs.Func(name, "`INSIDE:OUTSIDE:COUNT` of the "+whose+" of a new user namespace; may be repeated", func(s string) error {
			m, err := namespaces.ParseIDMaps(strings.ReplaceAll(s, ":", " "))
			*to = append(*to, m...)
			return err
		})
	}
	idMap("uid-map", &n.UIDMap, "users")
	idMap("gid-map", &n.GIDMap, "groups")
}

// labelFlag is --label, for specs and for selectors.
func labelFlag(fs *flag.FlagSet, to *map[string]string, usage string) {
	fs.Func("label", usage, func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return errors.New("not KEY=VALUE")
		}
		if *to == nil {
			*to = make(map[string]string)
		}
		if _, twice := (*to)[k]; twice {
			return errors.New("label " + strconv.Quote(k) + " is given twice")
		}
		(*to)[k] = v
		return nil
	})
}

func parseEnv(s string, lookup func(string) (string, bool)) ([]string, error) {
	name, _, given := strings.Cut(s, "=")
	if name == "" {
		return nil, errors.New("no name")
	}
	if given {
		return []string{s}, nil
	}
	if v, ok := lookup(name); ok {
		return []string{name + "=" + v}, nil
	}
	return nil, nil // not set outside, not set inside
}

func parseUser(s string) (isolation.User, error) {
	uid, gid, both := strings.Cut(s, ":")
	if !both {
		gid = uid
	}
	u, err1 := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if err1 != nil || err2 != nil {
		return isolation.User{}, errors.New("not UID or UID:GID in numbers")
	}
	return isolation.User{UID: uint32(u), GID: uint32(g)}, nil
}

func parseCapabilities(s string) []string {
	if s == "none" {
		return []string{}
	}
	return strings.Split(s, ",")
}

func parseRlimit(s string) (isolation.Rlimit, error) {
	name, text, ok := strings.Cut(s, "=")
	soft, hard, both := strings.Cut(text, ":")
	if !both {
		hard = soft
	}
	number := func(s string) (uint64, error) {
		if s == "unlimited" {
			return 1<<64 - 1, nil
		}
		return strconv.ParseUint(s, 10, 64)
	}
	a, err1 := number(soft)
	b, err2 := number(hard)
	if !ok || err1 != nil || err2 != nil {
		return isolation.Rlimit{}, errors.New("not NAME=SOFT or NAME=SOFT:HARD in numbers")
	}
	return isolation.Rlimit{Name: name, Soft: a, Hard: b}, nil
}

func printHelp(w io.Writer, fs *flag.FlagSet) error {
	fmt.Fprintln(w, "usage: caisson [FLAG]... COMMAND [FLAG]... [ID] [-- PROGRAM [ARG]...]")
	fmt.Fprintln(w, "\ncommands:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", c.name, c.args, c.does)
	}
	_ = t.Flush()
	fmt.Fprintln(w, "\nflags of every command:")
	printFlags(w, fs)
	_, err := fmt.Fprintln(w, "\ncaisson COMMAND --help tells more.")
	return err
}

func printCommandHelp(w io.Writer, c command, fs *flag.FlagSet) {
	fmt.Fprintf(w, "usage: caisson %s [FLAG]... %s\n\n%s\n\n", c.name, c.args, c.does)
	printFlags(w, fs)
}

func printFlags(w io.Writer, fs *flag.FlagSet) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fs.VisitAll(func(f *flag.Flag) {
		kind, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(t, "  --%s %s\t%s\n", f.Name, kind, usage)
	})
	_ = t.Flush()
}
