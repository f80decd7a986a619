// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Isolator connects sandboxes by plugins. It implements isolation.Isolator, and
// those of its optional interfaces that have to do with a start and a restart.
type Isolator struct {
	cfg  Config
	pins netns.Pins

	mu   sync.Mutex
	held map[string]*namespaces.Handle // by the sandbox's id
}

// New makes an isolator for isolation.Config.Isolators. Errors:
// isolation.ErrInvalid; those of netns.OpenPins.
func New(cfg Config) (*Isolator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Plugins) == 0 {
		cfg.Plugins = defaultPlugins
	}
	if cfg.Select == nil {
		cfg.Select = unspecified
	}
	pins, err := netns.OpenPins(cmp.Or(cfg.Pins, netns.DefaultPins))
	if err != nil {
		return nil, err
	}
	return &Isolator{cfg: cfg, pins: pins, held: map[string]*namespaces.Handle{}}, nil
}

// Name is "cni".
func (*Isolator) Name() string { return "cni" }

func (i *Isolator) dir(id string) string       { return filepath.Join(i.cfg.State, id) }
func (i *Isolator) pin(id string) string       { return "caisson-cni-" + i.cfg.Scope + "-" + id }
func (i *Isolator) path(id string) string      { return filepath.Join(i.pins.Path(), i.pin(id)) }
func (i *Isolator) container(id string) string { return i.cfg.Scope + "-" + id }

// library is libcni with its cache in dir.
func (i *Isolator) library(dir string, r *runner) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(i.cfg.Plugins, dir, r)
}

// Prepare makes the namespace and runs the plugins. What a failure leaves is
// undone by Cleanup, which the driver calls then.
func (i *Isolator) Prepare(ctx context.Context, c *isolation.Container) error {
	args, ours := i.cfg.Select(c.Spec.Clone())
	if !ours {
		return nil
	}
	if _, alone := unspecified(c.Spec); !alone {
		return &isolation.InvalidError{Field: "network", Value: string(c.Spec.Network.Mode), Reason: "the plugins make the network"}
	}
	id := c.Spec.ID
	r := record{Version: recordVersion, Arguments: args}
	for _, list := range i.cfg.Lists {
		r.Lists = append(r.Lists, json.RawMessage(list))
	}
	if err := os.MkdirAll(i.cfg.State, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(i.dir(id), 0o700); err != nil {
		return err
	}
	if err := r.save(i.dir(id)); err != nil {
		return err
	}
	ns, err := i.pins.Create(i.pin(id))
	if err != nil {
		return err
	}
	i.hold(id, ns)
	if err := loopback(ctx, ns); err != nil {
		return err
	}
	chains, err := r.chains(i.container(id), i.path(id))
	if err != nil {
		return err
	}
	err = i.locked(ctx, i.dir(id), func(run *runner) error {
		for _, ch := range chains {
			if _, err := i.library(i.dir(id), run).AddNetworkList(ctx, ch.list, ch.conf); err != nil {
				return fmt.Errorf("add to network %q: %w", ch.list.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.Done = true
	return r.save(i.dir(id))
}

// loopback sets the loopback device up.
func loopback(ctx context.Context, ns *namespaces.Handle) error {
	h, err := netns.Open(ns)
	if err != nil {
		return err
	}
	return errors.Join(h.SetUp(ctx, netns.Loopback), h.Close())
}

// hold keeps the sandbox's namespace, in place of the one that was held.
func (i *Isolator) hold(id string, ns *namespaces.Handle) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = i.held[id].Close()
	if i.held[id] = ns; ns == nil {
		delete(i.held, id)
	}
}

func (i *Isolator) holds(id string) *namespaces.Handle {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.held[id]
}

// Launch has the process be in the sandbox's namespace. Whatever its network, it
// does not see the ways into those of others, where it has a right to take them
// away.
func (i *Isolator) Launch(c *isolation.Container, l *isolation.Launch) error {
	if l.New.Has(namespaces.Mount) && !l.New.Has(namespaces.User) && !slices.Contains(l.Unmounts, i.pins.Path()) {
		l.Unmounts = append(l.Unmounts, i.pins.Path())
	}
	if ns := i.holds(c.Spec.ID); ns != nil {
		l.Join = append(l.Join, ns)
	}
	return nil
}

// Recover finds the namespace of an earlier process. It runs no plugin: whether
// they think that all is well, [Isolator.Check] tells.
func (i *Isolator) Recover(_ context.Context, c *isolation.Container) error {
	id := c.Spec.ID
	r, err := load(i.dir(id))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(i.dir(id)); err == nil {
			return fmt.Errorf("%w: its network was never made", isolation.ErrNotFound)
		}
		return nil // not ours
	}
	if err != nil {
		return err
	}
	if !r.Done {
		return fmt.Errorf("%w: its network is half-made", isolation.ErrNotFound)
	}
	ns, err := i.pins.Open(i.pin(id))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, namespaces.ErrNotNamespace) {
		return fmt.Errorf("%w: %w", isolation.ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	i.hold(id, ns)
	return nil
}

// Cleanup runs the plugins with DEL, the last one first, with the result that was
// kept if there is one, and takes the namespace away. If a plugin fails, the
// namespace and the record stay, for another try.
func (i *Isolator) Cleanup(ctx context.Context, c *isolation.Container) error {
	return i.remove(ctx, c.Spec.ID)
}

func (i *Isolator) remove(ctx context.Context, id string) error {
	dir := i.dir(id)
	r, err := load(dir)
	if err == nil {
		err = i.del(ctx, id, r)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil // no plugin has run
	}
	if err != nil {
		return err
	}
	i.hold(id, nil)
	if err := i.pins.Remove(i.pin(id)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// del undoes what the plugins did.
func (i *Isolator) del(ctx context.Context, id string, r record) error {
	path := i.path(id)
	switch ns, err := i.pins.Open(i.pin(id)); {
	case err == nil:
		_ = ns.Close()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, namespaces.ErrNotNamespace):
		path = "" // gone, and with it what was in it
	default:
		return err
	}
	chains, err := r.chains(i.container(id), path)
	if err != nil {
		return err
	}
	return i.locked(ctx, i.dir(id), func(run *runner) error {
		for _, ch := range slices.Backward(chains) {
			if err := i.library(i.dir(id), run).DelNetworkList(ctx, ch.list, ch.conf); err != nil {
				return fmt.Errorf("remove from network %q: %w", ch.list.Name, err)
			}
		}
		return nil
	})
}

// Release frees the descriptor of the namespace.
func (i *Isolator) Release(c *isolation.Container) error {
	i.hold(c.Spec.ID, nil)
	return nil
}

// kept is the record of a sandbox and its chains.
func (i *Isolator) kept(id string) ([]chain, error) {
	if err := isolation.ValidateID(id); err != nil {
		return nil, err
	}
	r, err := load(i.dir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no plugin connected %q", isolation.ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	return r.chains(i.container(id), i.path(id))
}

// Check asks the plugins whether the network of a sandbox is as they made it. The
// error is that of the first that does not think so; it matches
// isolation.ErrNotFound if no plugin connected the sandbox.
func (i *Isolator) Check(ctx context.Context, id string) error {
	chains, err := i.kept(id)
	if err != nil {
		return err
	}
	return i.locked(ctx, i.dir(id), func(run *runner) error {
		for _, ch := range chains {
			if err := i.library(i.dir(id), run).CheckNetworkList(ctx, ch.list, ch.conf); err != nil {
				return fmt.Errorf("check network %q: %w", ch.list.Name, err)
			}
		}
		return nil
	})
}

// Results are what the plugins answered, one for each list: the interfaces,
// addresses and routes of a sandbox. It matches isolation.ErrNotFound if no plugin
// connected the sandbox.
func (i *Isolator) Results(id string) ([]*current.Result, error) {
	chains, err := i.kept(id)
	if err != nil {
		return nil, err
	}
	var all []*current.Result
	for _, ch := range chains {
		kept, err := i.library(i.dir(id), nil).GetNetworkListCachedResult(ch.list, ch.conf)
		if err == nil && kept == nil {
			err = fs.ErrNotExist
		}
		if err != nil {
			return nil, fmt.Errorf("result of network %q: %w", ch.list.Name, err)
		}
		r, err := current.GetResult(kept)
		if err != nil {
			return nil, fmt.Errorf("result of network %q: %w", ch.list.Name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// Sweep removes the networks of sandboxes that live says no longer exist, for a
// state directory of sandboxes that was lost. One that cannot be removed is in the
// error, and the others are removed all the same.
func (i *Isolator) Sweep(ctx context.Context, live func(id string) bool) (removed []string, err error) {
	all, err := owners(i.cfg.State)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range all {
		if isolation.ValidateID(id) != nil || live(id) {
			continue
		}
		if err := i.remove(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("network of %q: %w", id, err))
			continue
		}
		removed = append(removed, id)
	}
	return removed, errors.Join(errs...)
}
