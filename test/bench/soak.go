// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caisson-run/caisson/isolation"
)

// soakResult is what the worker of the soak found, before and after.
type soakResult struct {
	Cycles   int
	Took     time.Duration
	Counts   [2]map[string]int64
	Sandbox  []string // what is left of sandboxes, by path
	Failures int
	Failure  string // the first
}

// counted are the things that may leak, and how many more there may be at the end.
// What the kernel has is of the whole machine, and of its allocator's caches too.
var counted = []struct {
	name string
	most float64
}{
	{"descriptors", 0}, {"mounts", 0}, {"namespaces of threads", 0}, {"groups", 0}, {"children", 0},
	{"goroutines", 0}, {"threads", 4}, {"heap, bytes", 64 << 10}, {"files of state", 0},
	{"kernel: net_namespace", 100}, {"kernel: pid_namespace", 100}, {"kernel: user_namespace", 100},
	{"kernel: mnt_cache", 1000}, {"kernel: mem_cgroup", 100},
}

// soakTable is about what many sandboxes, of which some are made and destroyed at
// once, leave behind.
func soakTable(ctx context.Context, p *place, o options) (*table, error) {
	root, err := p.rootfs()
	if err != nil {
		return nil, err
	}
	cmd := p.worker("soak", "-name", p.name+"-soak", "-state", filepath.Join(p.state, "soak"), "-root", root,
		"-n", strconv.Itoa(o.cycles), "-parallel", strconv.Itoa(o.parallel))
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, said.String())
	}
	var res soakResult
	if err := json.Unmarshal(out, &res); err != nil {
		return nil, err
	}
	t := &table{
		Name: "soak", Columns: []string{"(before)", "(after)"},
		Title: fmt.Sprintf("Create, start, wait and destroy %d sandboxes, %d at once, every other one a whole container: %s",
			res.Cycles, o.parallel, res.Took.Round(time.Millisecond)),
	}
	for _, c := range counted {
		before, after := float64(res.Counts[0][c.name]), float64(res.Counts[1][c.name])
		t.Rows = append(t.Rows, &row{
			Name: c.name, Values: map[string]float64{"(before)": before, "(after)": after},
			Bars: []bar{atMost("more", after-before, c.most)},
		})
	}
	t.Rows = append(t.Rows, &row{
		Name: "failures", Values: map[string]float64{"(after)": float64(res.Failures)},
		Bars: []bar{atMost("failures", float64(res.Failures), 0)},
	})
	if res.Failure != "" {
		t.Notes = append(t.Notes, "the first failure: "+res.Failure)
	}
	if len(res.Sandbox) > 0 {
		t.Notes = append(t.Notes, "left behind: "+strings.Join(res.Sandbox, ", "))
	}
	return t, nil
}

// soak is the agent.
func soak(args []string) (err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	name := flags.String("name", "caisson-bench-soak", "parent group")
	state := flags.String("state", "", "state directory")
	root := flags.String("root", "", "the layer of the root file system")
	n := flags.Int("n", 1000, "sandboxes")
	parallel := flags.Int("parallel", 8, "how many at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{Root: *state, Parent: *name})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Remove(ctx), host.Close()) }()
	s := &soaking{host: host, root: *root, group: *name, state: *state}
	s.run(ctx, 64**parallel, *parallel) // so that what is made once is not counted
	if s.failures > 0 {
		return s.first
	}
	res := soakResult{Cycles: *n}
	if res.Counts[0], err = s.count(nil); err != nil {
		return err
	}
	begin := time.Now()
	s.run(ctx, *n, *parallel)
	res.Took = time.Since(begin)
	if res.Counts[1], err = s.count(res.Counts[0]); err != nil {
		return err
	}
	res.Failures, res.Sandbox = s.failures, s.left
	if s.first != nil {
		res.Failure = s.first.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

type soaking struct {
	host               *isolation.Host
	root, group, state string
	made               atomic.Int64
	left               []string

	mu       sync.Mutex
	failures int
	first    error
}

// run makes and destroys n sandboxes, so many at once.
func (s *soaking) run(ctx context.Context, n, parallel int) {
	var all sync.WaitGroup
	var begun atomic.Int64
	for range parallel {
		all.Go(func() {
			for begun.Add(1) <= int64(n) {
				if _, err := oneSandbox(ctx, s.host, s.spec()); err != nil {
					s.mu.Lock()
					if s.failures++; s.first == nil {
						s.first = err
					}
					s.mu.Unlock()
				}
			}
		})
	}
	all.Wait()
}

func (s *soaking) spec() isolation.Spec {
	i := s.made.Add(1)
	spec := sandboxSpec("s"+strconv.FormatInt(i, 10), i%2 == 0, false)
	if i%2 == 0 {
		spec.Root = isolation.Root{Layers: []string{s.root}}
		spec.Namespaces.Cgroup = isolation.NamespaceNew
	}
	return spec
}

// count counts what may leak. What ends by itself, as the kernel takes namespaces
// apart later, is waited for until there is no more than before.
func (s *soaking) count(before map[string]int64) (map[string]int64, error) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		counts, err := s.countNow()
		if err != nil {
			return nil, err
		}
		more := false
		for _, c := range counted {
			more = more || before != nil && float64(counts[c.name]-before[c.name]) > c.most
		}
		if !more && before != nil || time.Now().After(end) || before == nil && time.Now().After(end.Add(-8*time.Second)) {
			return counts, nil
		}
	}
}

func (s *soaking) countNow() (map[string]int64, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil, err
	}
	var kids int64
	for _, c := range children {
		text, _ := os.ReadFile(c) // of a thread that may have ended
		kids += int64(len(strings.Fields(string(text))))
	}
	namespaces := map[string]bool{}
	links, err := filepath.Glob("/proc/self/task/*/ns/*")
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil { // or the thread has ended
			namespaces[to] = true
		}
	}
	s.left = nil
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + s.group + "/s*")
	if err != nil {
		return nil, err
	}
	unified, err := filepath.Glob("/sys/fs/cgroup/" + s.group + "/s*")
	if err != nil {
		return nil, err
	}
	s.left = append(groups, unified...)
	files := 0
	err = filepath.WalkDir(s.state, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	counts := map[string]int64{
		"descriptors": int64(entries("/proc/self/fd")), "mounts": int64(strings.Count(string(mounts), "\n")),
		"namespaces of threads": int64(len(namespaces)), "groups": int64(len(s.left)), "children": kids,
		"goroutines": int64(runtime.NumGoroutine()), "threads": int64(entries("/proc/self/task")), "heap, bytes": settled(),
		"files of state": int64(files),
	}
	for _, c := range counted {
		if kind, ok := strings.CutPrefix(c.name, "kernel: "); ok {
			counts[c.name] = slabs(kind)
		}
	}
	return counts, err
}

// slabs is how many objects of a kind the kernel has; 0 if it does not tell.
func slabs(kind string) int64 {
	text, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == kind {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}
