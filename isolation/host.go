// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/internal/checkpoint"
	"github.com/caisson-run/caisson/internal/linux"
	"github.com/caisson-run/caisson/netns"
)

// Config says where a [Host] keeps its sandboxes. The zero Config is a working
// one.
type Config struct {
	// Root is the state directory, made if it is missing, for this user alone. It
	// belongs on a file system that is empty after a reboot. What is in it is believed:
	// of a directory that is there already, nobody else may be able to write to it.
	// Empty is "/run/caisson".
	Root string

	// Parent is the group below which every sandbox gets its own, relative
	// to each hierarchy's top; made if it is missing. Empty is "caisson". It is
	// [ErrInvalid] while sandboxes of an earlier host are below another one.
	Parent string

	// CgroupMount is where the cgroup file systems are: another path than
	// "/sys/fs/cgroup", which empty means, for an agent that runs in a
	// container and has the host's mounted elsewhere.
	CgroupMount string

	// Ungrouped lets the host do without groups where this process may make none,
	// as an ordinary user without a cgroup that was delegated to him: Open does not
	// fail then. Its sandboxes have no limits, figures or pressure, cannot be frozen,
	// and end with the first process of their pid namespace. [Host.Lacks] tells. It does
	// not go with a Supervisor, which needs a group.
	Ungrouped bool

	// Shared lets several processes have hosts on one Root, each operation
	// waiting for the others' to end. By default the first process has the
	// Root alone, and others get [ErrLocked].
	Shared bool

	// Drift says what to do about limits that somebody else has changed.
	Drift DriftPolicy

	// Update says how memory limits fall where no call does: in
	// [Sandbox.Update] and [Sandbox.Claim], when a claim ends, and when drift is
	// undone. The zero value is [cgroups.Gradual].
	Update cgroups.UpdateConfig

	// Network says how sandboxes are connected whose spec has a Network. Its
	// Scope and State follow from Root where they are empty, and Machine is
	// opened from NetworkNamespace.
	Network netns.Config

	// NetworkNamespace is the path of the machine's network namespace, for an
	// agent that is in another one; empty is the caller's own.
	NetworkNamespace string

	// Uplink is the link that sandboxes share to the outside, for controllers that
	// keep it free for services; see [elastic.NetworkGuard].
	Uplink Uplink

	// Logs is the directory of sandboxes' logs, for specs with Logs: an absolute path,
	// better on a disk; empty is "logs" in Root. It is this host's alone. Of several
	// with one Root, whoever opens a sandbox first keeps its log until it is closed.
	Logs string

	// Journal is how many bytes the journal of events may have, 0 for none; see
	// [Host.Journal]. The older half goes when they are full.
	Journal int64

	// Supervisor is a program that calls [supervisor.Main], with its arguments, an
	// absolute path first. The processes of sandboxes are then its children, so how
	// they end is known on every kernel, whatever becomes of the agent meanwhile;
	// and it keeps descriptors for the next one, see [Sandbox.Keep]. The host starts
	// it at the first Start, if none runs for Root, and a Start that meets one at its
	// end has another one do it. Only if the program may have run already, it ends that
	// and fails.
	//
	// Further processes ([Sandbox.Exec]) are its children, too. What a process
	// inherits, where its spec does not say it, is what the supervisor had from the
	// agent that has started it: umask, resource limits, namespaces.
	//
	// Empty is none. One that an earlier host has started is asked all the same.
	//
	// [supervisor.Main]: https://pkg.go.dev/github.com/caisson-run/caisson/isolation/supervisor#Main
	Supervisor []string

	// Isolators are added to the native driver's, behind the built-in ones.
	Isolators []Isolator

	// Drivers are added to the native one, by the name that Spec.Driver uses.
	Drivers map[string]Driver

	clock clock // of tests; the real one if it is zero
	deaf  bool  // of tests: as if the kernel kept no exit status of others' children
}

// Host is one agent's sandboxes on one machine. It is safe for concurrent use.
type Host struct {
	cfg     Config
	boot    string
	dir     *checkpoint.Dir
	lock    *rootLock
	clock   clock
	leases  *leases
	journal *journal
	drivers map[string]Driver
	native  *nativeDriver
	adopted *adoptedDriver

	recovered []Recovery
	finisher  *finisher

	mu        sync.Mutex
	sandboxes map[string]*Sandbox
	listeners []*func() // of Announce
	closed    bool
}

// Open opens the host of cfg, and finds what earlier processes left there:
// whole sandboxes are adopted, half-made ones removed. [Host.Recovered] says
// which and why.
//
// An ordinary user gives a Root of his own and, as CgroupMount, a cgroup2 directory
// that was delegated to him. His sandboxes get a user namespace where their spec
// leaves that open; what they cannot have, [Host.Lacks] tells.
//
// It fails with [ErrLocked] if another process has the state directory,
// [ErrNotSupported] if this machine has no cgroups to work with, and
// os.ErrPermission without the right to use them.
func Open(ctx context.Context, cfg Config) (*Host, error) {
	cfg.Root = cmp.Or(cfg.Root, "/run/caisson")
	cfg.Parent = cmp.Or(cfg.Parent, "caisson")
	if !filepath.IsAbs(cfg.Root) {
		return nil, &InvalidError{Field: "root", Value: clip(cfg.Root), Reason: "not an absolute path"}
	}
	if cfg.Drift > DriftAccept {
		return nil, &InvalidError{Field: "drift", Value: cfg.Drift.String(), Reason: "no such policy"}
	}
	if err := cfg.Update.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logs != "" && !filepath.IsAbs(cfg.Logs) {
		return nil, &InvalidError{Field: "logs", Value: clip(cfg.Logs), Reason: "not an absolute path"}
	}
	if len(cfg.Supervisor) > 0 && !filepath.IsAbs(cfg.Supervisor[0]) {
		return nil, &InvalidError{Field: "supervisor", Value: clip(cfg.Supervisor[0]), Reason: "not an absolute path"}
	}
	boot, err := linux.BootID()
	if err != nil {
		return nil, fmt.Errorf("open host: %w", err)
	}
	// What is made is named after the directory, not after a way to it.
	err = os.MkdirAll(cfg.Root, 0o700)
	if err == nil {
		cfg.Root, err = filepath.EvalSymlinks(cfg.Root)
	}
	if err != nil {
		return nil, fmt.Errorf("open host: state directory: %w", err)
	}
	dir, err := checkpoint.Open(filepath.Join(cfg.Root, "sandboxes"))
	if err != nil {
		return nil, fmt.Errorf("open host: state directory: %w", err)
	}
	dir.Shared = cfg.Shared
	lock, err := lockRoot(cfg.Root, cfg.Shared)
	if err != nil {
		return nil, fmt.Errorf("open host: %w", err)
	}
	h := &Host{finisher: newFinisher(), cfg: cfg, boot: boot, dir: dir, lock: lock, clock: cfg.clock, sandboxes: map[string]*Sandbox{}}
	if h.clock.now == nil {
		h.clock = realClock()
	}
	h.leases = newLeases(h.clock)
	if err := h.open(ctx); err != nil {
		return nil, fmt.Errorf("open host: %w", errors.Join(err, h.Close()))
	}
	return h, nil
}

func (h *Host) open(ctx context.Context) error {
	unlock, err := h.lock.operation(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	own, err := checkpoint.Open(h.cfg.Root)
	if err != nil {
		return err
	}
	own.Shared = h.cfg.Shared
	if h.journal, err = openJournal(h.cfg.Root, h.cfg.Journal, h.cfg.Shared); err != nil {
		return err
	}
	ids, err := h.dir.Names()
	if err != nil {
		return err
	}
	native, err := openNative(ctx, h.cfg, own, ids)
	if err != nil {
		return err
	}
	h.native, h.adopted = native, newAdoptedDriver(native, h.cfg.Parent)
	h.drivers = map[string]Driver{"": native, nativeName: native, adoptedName: h.adopted}
	if native.parent == nil {
		h.drivers[""], h.drivers[nativeName] = ungroupedDriver{native}, ungroupedDriver{native}
	}
	for name, d := range h.cfg.Drivers {
		if _, taken := h.drivers[name]; taken || d == nil {
			return &InvalidError{Field: "drivers", Value: clip(name), Reason: "the name is taken, or the driver is nil"}
		}
		h.drivers[name] = d
	}
	if err := h.recover(ctx); err != nil {
		return err
	}
	if err := h.recoverPromises(ctx); err != nil {
		return err
	}
	return errors.Join(h.recoverNetwork(ctx), h.recoverLogs(), h.recoverSupervised(ctx))
}

// Mode is the layout of cgroups that the host works with; 0 if the machine has
// none, which takes Config.Ungrouped.
func (h *Host) Mode() cgroups.Mode {
	if h.native.root == nil {
		return 0
	}
	return h.native.root.Mode()
}

// Root is the machine's cgroup hierarchies, for doctors and monitors. It is
// the host's: do not close it. It is nil if the machine has none.
func (h *Host) Root() *cgroups.Root { return h.native.root }

// Parent is the group that all sandboxes are in: limits on it are limits on all
// of them together. It is the host's: do not close or remove it.
//
// Beware of a large weight: on cgroup v1 and v2 alike it is taken from the
// group's siblings, and the agent itself may be one.
//
// It is nil where the host works without groups, see Config.Ungrouped.
func (h *Host) Parent() *cgroups.Cgroup {
	if h.native.parent == nil {
		return nil
	}
	return h.native.parent.group
}

// Create makes a sandbox, whole or not at all; its process is started by
// [Sandbox.Start]. Creating a sandbox that exists with an equal spec returns
// that sandbox.
//
// It fails with [ErrInvalid] before anything is touched, [ErrExists] if the id
// has another spec, [ErrNotSupported] if this machine lacks what the spec asks
// for, or what the kernel answered.
func (h *Host) Create(ctx context.Context, spec Spec) (*Sandbox, error) {
	s, err := h.create(ctx, spec.Clone())
	return s, wrap("create", clip(spec.ID), err)
}

func (h *Host) create(ctx context.Context, spec Spec) (*Sandbox, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	driver, ok := h.drivers[spec.Driver]
	if !ok || spec.Driver == adoptedName {
		return nil, &InvalidError{Field: "driver", Value: clip(spec.Driver), Reason: "no such driver to create with"}
	}
	if spec.Driver == "" || spec.Driver == nativeName {
		if err := h.adapt(&spec); err != nil {
			return nil, err
		}
	}
	unlock, err := h.lock.operation(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()

	s := newSandbox(h, driver, newRecord(spec, h.boot, time.Now()))
	return h.settle(ctx, s, func(ctx context.Context, existing *Sandbox) (bool, error) { return existing.sameSpec(ctx, spec) })
}

// settle makes s, or returns the sandbox of its id that lives on in its place,
// which same reports.
func (h *Host) settle(ctx context.Context, s *Sandbox, same func(context.Context, *Sandbox) (bool, error)) (*Sandbox, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	if existing, err := h.take(ctx, s, same); err != nil || existing != s {
		return existing, err
	}
	if err := s.make(ctx); err != nil {
		s.gone = true
		h.leave(s)
		return nil, err
	}
	event := "create"
	if s.driver == Driver(h.adopted) {
		event = "adopt"
	}
	s.note(JournalEntry{Event: event})
	h.announce()
	return s, nil
}

// take has s be the sandbox of its id, or returns the one that lives on in its
// place, which same reports.
func (h *Host) take(ctx context.Context, s *Sandbox, same func(context.Context, *Sandbox) (bool, error)) (*Sandbox, error) {
	for {
		existing, err := h.enter(s)
		if err != nil || existing == s {
			return existing, err
		}
		if lives, err := same(ctx, existing); err != nil {
			return nil, err
		} else if lives {
			return existing, nil
		}
		h.leave(existing)
	}
}

// Destroy ends every process of the sandbox and leaves nothing of it. An id
// that is not there is nil, so it may be repeated.
//
// A sandbox whose record makes no sense, as [Host.Recovered] has said, is ended by
// what the kernel has of it.
//
// A container that was adopted is only let go of: it runs on, with its limits as
// they are. See [Sandbox.Release].
//
// When ctx ends first, the error says what is still there: a
// [cgroups.RemainingError] names the processes and where in the kernel they wait.
// They are killed already; the host goes on in the background until the sandbox is
// gone, unless it is Shared, and Destroy may be called again to wait for that.
func (h *Host) Destroy(ctx context.Context, id string) error {
	s, err := h.sandbox(ctx, id)
	if err != nil && (errors.Is(err, ErrNotFound) || h.leftAlone(id) != nil || IsCorrupt(err)) {
		s, err = h.destroyCorrupt(ctx, id)
	}
	if err != nil || s == nil {
		return wrap("destroy", clip(id), err)
	}
	return s.Destroy(ctx)
}

// Check tells the truth about one sandbox, as it is now.
func (h *Host) Check(ctx context.Context, id string) (Status, error) {
	s, err := h.sandbox(ctx, id)
	if err != nil {
		return Status{}, wrap("check", clip(id), err)
	}
	return s.Check(ctx)
}

// Sandbox is the sandbox called id, or [ErrNotFound].
func (h *Host) Sandbox(ctx context.Context, id string) (*Sandbox, error) {
	s, err := h.sandbox(ctx, id)
	return s, wrap("find", clip(id), err)
}

func (h *Host) sandbox(ctx context.Context, id string) (*Sandbox, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	h.mu.Lock()
	s, ok := h.sandboxes[id]
	closed := h.closed
	h.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case ok:
		return s, nil
	case h.cfg.Shared:
		return h.find(ctx, id)
	}
	if err := h.leftAlone(id); err != nil {
		return nil, err
	}
	return nil, ErrNotFound
}

// Sandboxes goes through the sandboxes that match, by id, as they were when it
// was called.
func (h *Host) Sandboxes(sel Selector) iter.Seq[*Sandbox] {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.sandboxes))
	h.mu.Unlock()
	slices.SortFunc(all, func(a, b *Sandbox) int { return cmp.Compare(a.id, b.id) })
	return func(yield func(*Sandbox) bool) {
		for _, s := range all {
			if sel.Matches(s.Labels()) && !yield(s) {
				return
			}
		}
	}
}

// Remove takes away what [Open] made on this machine: the parent group and the
// state directory's own files. It fails with [ErrState] while there are
// sandboxes. Close still has to be called.
func (h *Host) Remove(ctx context.Context) error {
	unlock, err := h.lock.operation(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	names, err := h.dir.Names()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // or else somebody was faster
		return fmt.Errorf("remove host: %w", err)
	}
	if len(names) > 0 {
		return fmt.Errorf("remove host: %w: sandbox %q is there: destroy it first", ErrState, names[0])
	}
	if err := errors.Join(h.native.network.remove(), h.native.logs.remove(), h.native.supervisor.remove(ctx)); err != nil {
		return fmt.Errorf("remove host: %w", err)
	}
	if err := h.native.parent.remove(ctx); err != nil {
		return fmt.Errorf("remove host: %w", err)
	}
	return h.lock.remove()
}

// Close frees the host's descriptors and goroutines. The sandboxes live on.
// Closing twice is nil.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	all := slices.Collect(maps.Values(h.sandboxes))
	h.sandboxes = nil
	h.mu.Unlock()
	h.finisher.close()
	h.leases.close()
	var errs []error
	for _, s := range all {
		errs = append(errs, s.close())
	}
	if h.native != nil {
		errs = append(errs, h.native.close())
	}
	errs = append(errs, h.journal.close(), h.lock.close())
	return errors.Join(errs...)
}

// enter puts s among the sandboxes, unless there is one of its id already, and
// returns the one that is there.
func (h *Host) enter(s *Sandbox) (*Sandbox, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if existing, ok := h.sandboxes[s.id]; ok {
		return existing, nil
	}
	h.sandboxes[s.id] = s
	return s, nil
}

// released says why a sandbox's descriptors are closed.
func (h *Host) released(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return fmt.Errorf("%w: %w", ErrNotFound, err)
}

func (h *Host) leave(s *Sandbox) {
	h.leases.arm(s, time.Time{})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sandboxes[s.id] == s {
		delete(h.sandboxes, s.id)
	}
}
