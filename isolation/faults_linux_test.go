// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/checkpoint"
	"github.com/caisson-run/caisson/netns"
	"github.com/stretchr/testify/require"
)

// faulty is the native driver as a value, for a host to have by a name, with a
// method in place of each of its own that is not nil.
type faulty struct {
	*nativeDriver
	create  func(context.Context, *Container) error
	destroy func(context.Context, *Container) error
	check   func(context.Context, *Container) (Status, error)
	recover func(context.Context, *Container) error
	start   func(context.Context, *Container, []*os.File) error
	wait    func(context.Context, *Container) (ExitStatus, error)
	signal  func(context.Context, *Container, syscall.Signal) error
	freeze  func(context.Context, *Container) error
	plan    func(*Container, cgroups.Resources) (cgroups.Plan, error)
	update  func(context.Context, *Container, cgroups.Resources, cgroups.UpdateConfig) (cgroups.Result, error)
	stat    func(*Container, *cgroups.Stats) error
	watch   func(context.Context, *Container, []elastic.Threshold) iter.Seq2[Event, error]
	exec    func(context.Context, *Container, Process, []*os.File) (*Exec, error)
}

func (f *faulty) Create(ctx context.Context, c *Container) error {
	if f.create != nil {
		return f.create(ctx, c)
	}
	return f.nativeDriver.Create(ctx, c)
}

func (f *faulty) Destroy(ctx context.Context, c *Container) error {
	if f.destroy != nil {
		return f.destroy(ctx, c)
	}
	return f.nativeDriver.Destroy(ctx, c)
}

func (f *faulty) Check(ctx context.Context, c *Container) (Status, error) {
	if f.check != nil {
		return f.check(ctx, c)
	}
	return f.nativeDriver.Check(ctx, c)
}

func (f *faulty) Recover(ctx context.Context, c *Container) error {
	if f.recover != nil {
		return f.recover(ctx, c)
	}
	return f.nativeDriver.Recover(ctx, c)
}

func (f *faulty) Start(ctx context.Context, c *Container, files []*os.File) error {
	if f.start != nil {
		return f.start(ctx, c, files)
	}
	return f.nativeDriver.Start(ctx, c, files)
}

func (f *faulty) Wait(ctx context.Context, c *Container) (ExitStatus, error) {
	if f.wait != nil {
		return f.wait(ctx, c)
	}
	return f.nativeDriver.Wait(ctx, c)
}

func (f *faulty) Signal(ctx context.Context, c *Container, sig syscall.Signal) error {
	if f.signal != nil {
		return f.signal(ctx, c, sig)
	}
	return f.nativeDriver.Signal(ctx, c, sig)
}

func (f *faulty) Freeze(ctx context.Context, c *Container) error {
	if f.freeze != nil {
		return f.freeze(ctx, c)
	}
	return f.nativeDriver.Freeze(ctx, c)
}

func (f *faulty) Plan(c *Container, r cgroups.Resources) (cgroups.Plan, error) {
	if f.plan != nil {
		return f.plan(c, r)
	}
	return f.nativeDriver.Plan(c, r)
}

func (f *faulty) Update(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
	if f.update != nil {
		return f.update(ctx, c, r, cfg)
	}
	return f.nativeDriver.Update(ctx, c, r, cfg)
}

func (f *faulty) Stat(c *Container, s *cgroups.Stats) error {
	if f.stat != nil {
		return f.stat(c, s)
	}
	return f.nativeDriver.Stat(c, s)
}

func (f *faulty) Watch(ctx context.Context, c *Container, pressure []elastic.Threshold) iter.Seq2[Event, error] {
	if f.watch != nil {
		return f.watch(ctx, c, pressure)
	}
	return f.nativeDriver.Watch(ctx, c, pressure)
}

func (f *faulty) Exec(ctx context.Context, c *Container, p Process, files []*os.File) (*Exec, error) {
	if f.exec != nil {
		return f.exec(ctx, c, p, files)
	}
	return f.nativeDriver.Exec(ctx, c, p, files)
}

// FaultyDriver is the native driver with the fault of that name; "" has none.
func FaultyDriver(t testing.TB, dir, parent, fault string) Driver {
	t.Helper()
	ctx := context.Background()
	log, err := checkpoint.Open(dir)
	require.NoError(t, err)
	// The log is where the suite's host has it.
	n, err := openNative(ctx, Config{
		Root: dir, Parent: parent, Logs: filepath.Join(dir, "../state/logs"), Network: netns.Config{Pins: filepath.Join(dir, "pins")},
	}, log, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		// What a fault leaves is in the way, and found by others.
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		if err := errors.Join(n.parent.remove(ctx), n.network.remove()); fault == "" {
			require.NoError(t, err)
		}
		require.NoError(t, n.close())
	})
	f := &faulty{nativeDriver: n}
	if fault != "" {
		faults[fault](f)
	}
	return f
}

// Faults are the names of all faults: of the parts of the suite that are to
// find them.
func Faults() (names []string) {
	for name := range faults {
		names = append(names, name)
	}
	return names
}

// lying is what Check is told to say by a function.
func lying(f *faulty, lie func(*Status)) {
	f.check = func(ctx context.Context, c *Container) (Status, error) {
		st, err := f.nativeDriver.Check(ctx, c)
		if err == nil {
			lie(&st)
		}
		return st, err
	}
}

// nothing is a Destroy that does nothing.
func nothing(context.Context, *Container) error { return nil }

// polite is a Destroy that believes in SIGTERM.
func polite(f *faulty) {
	f.destroy = func(_ context.Context, c *Container) error {
		if c.Cgroup() == nil {
			return nil
		}
		pids, err := c.Cgroup().AllProcs()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
		return err
	}
}

// single is a Destroy that ends those processes that it has seen first, of a
// sandbox without a pid namespace, which would end the others.
func single(f *faulty, firstOnly bool) {
	f.create = func(ctx context.Context, c *Container) error {
		c.Spec.Namespaces.PID = NamespaceHost
		return f.nativeDriver.Create(ctx, c)
	}
	f.destroy = func(ctx context.Context, c *Container) error {
		pids, err := c.Cgroup().AllProcs()
		if firstOnly {
			pids = []int{boxOf(c).saved.PID}
		}
		<-time.After(20 * time.Millisecond) // in which others are born
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return errors.Join(err, f.nativeDriver.Release(c))
	}
}

var kept any // what a fault allocates, or does not close

var faults = map[string]func(f *faulty){
	"create": func(f *faulty) { // it leaks a descriptor
		f.create = func(ctx context.Context, c *Container) error {
			file, err := os.Open(os.DevNull)
			kept = file
			return errors.Join(err, f.nativeDriver.Create(ctx, c))
		}
	},
	"create-names": func(f *faulty) { // it has names of its own, which are shorter
		f.create = func(ctx context.Context, c *Container) error {
			if len(c.Spec.ID) > 60 {
				return errors.New("the name is too long")
			}
			return f.nativeDriver.Create(ctx, c)
		}
	},
	"create-refused": func(f *faulty) { // it leaves out what it cannot do
		f.create = func(ctx context.Context, c *Container) error {
			c.Spec.Resources = cgroups.Resources{}
			return f.nativeDriver.Create(ctx, c)
		}
	},
	"create-no-program": func(f *faulty) { // it starts in the background
		f.start = func(ctx context.Context, c *Container, files []*os.File) error {
			_ = f.nativeDriver.Start(ctx, c, files)
			return nil
		}
	},
	"create-cancelled": func(f *faulty) { // it leaves what it has made so far
		f.create = func(ctx context.Context, c *Container) error {
			if err := context.Cause(ctx); err != nil {
				g, cerr := f.root.Create(f.parent.name+"/"+c.Spec.ID, 0)
				kept = g
				return errors.Join(err, cerr, g.Close())
			}
			return f.nativeDriver.Create(ctx, c)
		}
	},
	"start": func(f *faulty) { // it passes on three descriptors
		f.start = func(ctx context.Context, c *Container, files []*os.File) error {
			return f.nativeDriver.Start(ctx, c, files[:min(3, len(files))])
		}
	},
	"start-cancelled": func(f *faulty) { // it gives up waiting for what it has begun
		f.start = func(ctx context.Context, c *Container, files []*os.File) error {
			return errors.Join(f.nativeDriver.Start(context.WithoutCancel(ctx), c, files), context.Cause(ctx))
		}
	},
	"exit-code": func(f *faulty) {
		lying(f, func(st *Status) {
			if st.Exit != nil {
				st.Exit.Code = min(1, st.Exit.Code)
			}
		})
	},
	"exit-signal": func(f *faulty) { // it counts as shells do, and no more
		lying(f, func(st *Status) {
			if st.Exit != nil {
				st.Exit.Signal = 0
			}
		})
	},
	"wait": func(f *faulty) { // it does not look at its context
		f.wait = func(ctx context.Context, c *Container) (ExitStatus, error) {
			return f.nativeDriver.Wait(context.WithoutCancel(ctx), c)
		}
	},
	"signal": func(f *faulty) { // it does not say that there was nobody
		f.signal = func(ctx context.Context, c *Container, sig syscall.Signal) error {
			_ = f.nativeDriver.Signal(ctx, c, sig)
			return nil
		}
	},
	"signal-handled": func(f *faulty) { // it knows one signal
		f.signal = func(ctx context.Context, c *Container, _ syscall.Signal) error {
			return f.nativeDriver.Signal(ctx, c, syscall.SIGKILL)
		}
	},
	"exec": func(f *faulty) { // it has no environment
		f.exec = func(ctx context.Context, c *Container, p Process, files []*os.File) (*Exec, error) {
			p.Env = nil
			return f.nativeDriver.Exec(ctx, c, p, files)
		}
	},
	"destroy-created": func(f *faulty) { // it wants something to kill
		f.destroy = func(ctx context.Context, c *Container) error {
			if b := boxOf(c); b != nil && b.state() == StateCreated {
				return &StateError{State: StateCreated, Reason: "no process was started"}
			}
			return f.nativeDriver.Destroy(ctx, c)
		}
	},
	"destroy-exited": func(f *faulty) { // it takes what has ended for gone
		f.destroy = func(ctx context.Context, c *Container) error {
			if b := boxOf(c); b != nil && b.state() == StateExited {
				return nil
			}
			return f.nativeDriver.Destroy(ctx, c)
		}
	},
	"destroy-running":       func(f *faulty) { f.destroy = nothing },
	"destroy-twice-at-once": func(f *faulty) { f.destroy = nothing },
	"destroy-deaf":          polite,
	"destroy-stopped":       polite,
	"destroy-orphans":       func(f *faulty) { single(f, true) },
	"destroy-forking":       func(f *faulty) { single(f, false) },
	"destroy-frozen": func(f *faulty) { // it has time
		f.destroy = func(ctx context.Context, c *Container) error {
			if frozen, err := c.Cgroup().Frozen(); err == nil && frozen {
				return nil
			}
			return f.nativeDriver.Destroy(ctx, c)
		}
	},
	"destroy-cancelled": func(f *faulty) { // it tries once
		tried := false
		f.destroy = func(ctx context.Context, c *Container) error {
			if tried {
				return nil
			}
			if tried = ctx.Err() != nil; tried {
				return context.Cause(ctx)
			}
			return f.nativeDriver.Destroy(ctx, c)
		}
	},
	"destroy-half-made": func(f *faulty) { // it goes by what it remembers
		f.recover = func(context.Context, *Container) error { return ErrNotFound }
		f.destroy = func(ctx context.Context, c *Container) error {
			if boxOf(c) == nil {
				return nil
			}
			return f.nativeDriver.Destroy(ctx, c)
		}
	},
	"check-vanished": func(f *faulty) { // it remembers
		f.check = func(ctx context.Context, c *Container) (Status, error) {
			st, err := f.nativeDriver.Check(ctx, c)
			if errors.Is(err, ErrNotFound) {
				return Status{State: StateRunning}, nil
			}
			return st, err
		}
	},
	"freeze": func(f *faulty) { f.freeze = nothing },
	"update": func(f *faulty) { // its plan is an update
		f.plan = func(c *Container, r cgroups.Resources) (cgroups.Plan, error) {
			plan, err := f.nativeDriver.Plan(c, r)
			if err == nil {
				_, err = f.nativeDriver.Update(context.Background(), c, r, cgroups.UpdateConfig{})
			}
			return plan, err
		}
	},
	"update-refused": func(f *faulty) { // it does what it can
		f.update = func(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
			if _, err := f.nativeDriver.Update(ctx, c, cgroups.Resources{PIDs: r.PIDs}, cfg); err != nil {
				return cgroups.Result{}, err
			}
			return f.nativeDriver.Update(ctx, c, r, cfg)
		}
	},
	"stat": func(f *faulty) { // it allocates
		f.stat = func(c *Container, s *cgroups.Stats) error {
			kept = new([64]byte)
			return f.nativeDriver.Stat(c, s)
		}
	},
	"watch": func(f *faulty) { // it tells those who have left
		f.watch = func(ctx context.Context, c *Container, pressure []elastic.Threshold) iter.Seq2[Event, error] {
			return func(yield func(Event, error) bool) {
				if yield(Gone{Time: time.Now()}, nil) {
					f.nativeDriver.Watch(ctx, c, pressure)(yield)
				}
			}
		}
	},
	"watch-exit": func(f *faulty) { // it does not tell of the exit
		f.watch = func(ctx context.Context, c *Container, pressure []elastic.Threshold) iter.Seq2[Event, error] {
			return func(yield func(Event, error) bool) {
				for ev, err := range f.nativeDriver.Watch(ctx, c, pressure) {
					if _, exit := ev.(Exited); exit || !yield(ev, err) {
						return
					}
				}
			}
		}
	},
	"recover-running": func(f *faulty) { // it has forgotten which process that was
		f.recover = func(ctx context.Context, c *Container) error {
			err := f.nativeDriver.Recover(ctx, c)
			lying(f, func(st *Status) { st.PID = 0 })
			return err
		}
	},
	"recover-exited": func(f *faulty) { // it has forgotten how it ended
		f.recover = func(ctx context.Context, c *Container) error {
			err := f.nativeDriver.Recover(ctx, c)
			lying(f, func(st *Status) {
				if st.Exit != nil {
					*st.Exit = ExitStatus{At: st.Exit.At}
				}
			})
			return err
		}
	},
	"logs": func(f *faulty) { // it has files of its own
		f.start = func(ctx context.Context, c *Container, _ []*os.File) error {
			return f.nativeDriver.Start(ctx, c, []*os.File{nil, os.Stderr, os.Stderr})
		}
	},
	"network": func(f *faulty) { // it gives it one, and not this
		f.create = func(ctx context.Context, c *Container) error {
			c.Spec.Network = netns.Spec{Mode: netns.ModeNew}
			return f.nativeDriver.Create(ctx, c)
		}
	},
	"classes": func(f *faulty) { // all are equal
		f.create = func(ctx context.Context, c *Container) error {
			c.Spec.Class = elastic.Standard
			return f.nativeDriver.Create(ctx, c)
		}
	},
	"recover-limits": func(f *faulty) { // it begins anew
		f.recover = func(ctx context.Context, c *Container) error {
			err := f.nativeDriver.Recover(ctx, c)
			if err == nil {
				_, err = c.Cgroup().Update(ctx, cgroups.Resources{PIDs: cgroups.PIDs{Max: cgroups.Count(100)}})
			}
			return err
		}
	},
	"recover-vanished": func(f *faulty) { // it believes what is written
		f.recover = func(ctx context.Context, c *Container) error {
			if err := f.nativeDriver.Recover(ctx, c); !errors.Is(err, ErrNotFound) {
				return err
			}
			return nil
		}
	},
	"beside": func(f *faulty) { // it has no time for two
		var busy atomic.Bool
		f.update = func(ctx context.Context, c *Container, r cgroups.Resources, cfg cgroups.UpdateConfig) (cgroups.Result, error) {
			busy.Store(true)
			defer busy.Store(false)
			<-time.After(5 * time.Millisecond) // another thread's turn
			return f.nativeDriver.Update(ctx, c, r, cfg)
		}
		f.check = func(ctx context.Context, c *Container) (Status, error) {
			if busy.Load() {
				return Status{}, errors.New("busy")
			}
			return f.nativeDriver.Check(ctx, c)
		}
	},
}
