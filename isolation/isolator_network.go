// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
)

// networkIsolator owns the sandbox's network. It is prepared first and cleaned up
// last, when no process is in it any more.
type networkIsolator struct {
	cfg   netns.Config
	path  string // of the machine's namespace; empty: the caller's own
	state string

	mu  sync.Mutex
	net *netns.Network // nil until somebody needs it
}

func newNetworkIsolator(cfg Config) *networkIsolator {
	i := &networkIsolator{cfg: cfg.Network, state: filepath.Join(cfg.Root, "net"), path: cfg.NetworkNamespace}
	if i.cfg.Scope == "" {
		i.cfg.Scope = scopeOf(cfg.Root)
	}
	if i.cfg.State == "" {
		i.cfg.State = i.state
	}
	return i
}

// scopeOf tells what hosts of this state directory make from what others make.
func scopeOf(root string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(root)))
	return hex.EncodeToString(sum[:4])
}

// open opens the network at the first need for it.
func (i *networkIsolator) open(ctx context.Context) (*netns.Network, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.net != nil {
		return i.net, nil
	}
	cfg := i.cfg
	if i.path != "" {
		ns, err := namespaces.OpenPath(i.path)
		if err != nil {
			return nil, err
		}
		defer ns.Close()
		cfg.Machine = ns
	}
	if err := os.MkdirAll(i.state, 0o700); err != nil {
		return nil, err
	}
	net, err := netns.OpenNetwork(ctx, cfg)
	i.net = net
	return net, err
}

// opened is the network if somebody needed it.
func (i *networkIsolator) opened() *netns.Network {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.net
}

// recover takes over what earlier processes left, or nothing if there never was a
// network here, and removes what belongs to no sandbox of ids.
func (i *networkIsolator) recover(ctx context.Context, ids []string) ([]string, error) {
	_, err := os.Stat(i.state)
	unused := errors.Is(err, fs.ErrNotExist)
	if unused && reflect.DeepEqual(i.cfg, netns.Config{Scope: i.cfg.Scope, State: i.cfg.State}) {
		return nil, nil
	}
	net, err := i.open(ctx)
	if err != nil || unused {
		return nil, err
	}
	live := make(map[string]bool, len(ids))
	for _, id := range ids {
		live[id] = true
	}
	return net.Sweep(ctx, func(owner string) bool { return live[owner] })
}

// close frees the descriptors.
func (i *networkIsolator) close() error { return i.opened().Close() }

// remove deletes the state directory, and a directory of pins that is nobody
// else's.
func (i *networkIsolator) remove() error {
	var errs []error
	if net := i.opened(); net != nil && net.Pins().Path() != netns.DefaultPins {
		errs = append(errs, net.Pins().Discard())
	}
	return errors.Join(append(errs, os.RemoveAll(i.state))...)
}

func (*networkIsolator) Name() string { return "network" }

// Prepare makes the network, or finds the one to join.
func (i *networkIsolator) Prepare(ctx context.Context, c *Container) error {
	spec := c.Spec.Network
	if spec.Mode == "" {
		return nil
	}
	c.elsewhere = i.path != ""
	net, err := i.open(ctx)
	if err != nil {
		return err
	}
	if spec.Mode == netns.ModeNew {
		c.Network, err = createRanked(ctx, net, c, usableByAll(c.Spec))
	} else {
		c.Network, err = net.Open(ctx, c.Spec.ID, spec)
	}
	if err == nil {
		err = i.writeDNS(c)
	}
	return err
}

// createRanked makes a network whose interfaces have the priority of the sandbox's
// class, where its owner does not say otherwise. A machine that cannot give or keep it
// goes without.
func createRanked(ctx context.Context, net *netns.Network, c *Container, n netns.Spec) (*netns.Attachment, error) {
	ranked := n.Clone()
	for at := range ranked.Interfaces {
		ranked.Interfaces[at].Bandwidth.Priority = rankOf(c.Spec.Class, n.Interfaces[at])
	}
	a, err := net.Create(ctx, c.Spec.ID, ranked)
	if !errors.Is(err, ErrNotSupported) || ranked.Equal(n) {
		return a, err
	}
	lacking := err
	if a, err = net.Create(ctx, c.Spec.ID, n); err == nil {
		c.missing = append(c.missing, "class "+c.Spec.Class.String()+": "+lacking.Error())
	}
	return a, err
}

// rankOf is the priority of an interface: its owner's, or that of the class.
func rankOf(class elastic.Class, in netns.Interface) netns.Priority {
	if in.Bandwidth.Priority.IsZero() && in.Kind != netns.Physical {
		return priorityOf(class)
	}
	return in.Bandwidth.Priority
}

// priorityOf is the priority of the class, unset if it has none.
func priorityOf(class elastic.Class) netns.Priority {
	if n, ok := class.NetworkPriority(); ok {
		return netns.PriorityOf(n)
	}
	return netns.Priority{}
}

// usableByAll is the network of s. Who is root in a user namespace of its own is
// nobody special in a network namespace of the machine, which therefore lets
// everybody in it do what root expects to be able to, where s does not say
// otherwise.
func usableByAll(s Spec) netns.Spec {
	n := s.Network.Clone()
	if !s.Namespaces.Kinds().Has(namespaces.User) {
		return n
	}
	for key, value := range map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0",            // to listen on every port
		"net.ipv4.ping_group_range":           "0 2147483647", // to send echo requests
	} {
		_, dots := n.Sysctls[key]
		_, slashes := n.Sysctls[strings.ReplaceAll(key, ".", "/")]
		if dots || slashes {
			continue
		}
		if n.Sysctls == nil {
			n.Sysctls = map[string]string{}
		}
		n.Sysctls[key] = value
	}
	return n
}

func (i *networkIsolator) dns(c *Container) string {
	return filepath.Join(i.state, "dns", c.Spec.ID)
}

// writeDNS makes the files that Launch mounts.
func (i *networkIsolator) writeDNS(c *Container) error {
	d := c.Spec.Network.DNS
	if d.IsZero() {
		return nil
	}
	dir := i.dns(c)
	c.resolving = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if text := d.ResolvConf(); len(text) > 0 {
		if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), text, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "hosts"), d.HostsFile(hostname(c.Spec), c.Network.Addrs()), 0o644)
}

// Launch has the process join the network. Whatever its network, a sandbox gets
// rid of its copy of the pins, which are ways into other sandboxes. In a user
// namespace of its own the kernel does not let it, nor lets it join any of them.
func (i *networkIsolator) Launch(c *Container, l *Launch) error {
	kinds := c.Spec.Namespaces.Kinds()
	mounts := kinds.Has(namespaces.Mount)
	if net := i.opened(); net != nil && mounts && !kinds.Has(namespaces.User) {
		l.Unmounts = append(l.Unmounts, net.Pins().Path())
	}
	if c.Network == nil {
		return nil
	}
	l.Join = append(l.Join, c.Network.Namespace())
	if !mounts {
		return nil
	}
	files, err := c.NetworkFiles()
	l.Mounts = append(l.Mounts, files...)
	return err
}

// networkFiles are those that writeDNS has made in dir, as mounts.
func networkFiles(dir string) (list []Mount, err error) {
	if dir == "" {
		return nil, nil
	}
	for _, name := range []string{"resolv.conf", "hosts"} {
		file := filepath.Join(dir, name)
		switch _, err := os.Stat(file); {
		case err == nil:
			list = append(list, Mount{Source: file, Target: "/etc/" + name, Flags: MountBind})
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return list, nil
}

// Recover finds the network of an earlier process, with the limits that were
// acknowledged or, as long as that has not ended, narrowed to.
func (i *networkIsolator) Recover(ctx context.Context, c *Container) error {
	if c.Spec.Network.Mode == "" {
		return nil
	}
	net, err := i.open(ctx)
	if err != nil {
		return err
	}
	c.elsewhere = i.path != ""
	if !c.Spec.Network.DNS.IsZero() {
		c.resolving = i.dns(c)
	}
	c.Network, err = net.Open(ctx, c.Spec.ID, c.Spec.Network)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	for n, in := range c.Spec.Network.Interfaces {
		name, narrowed := c.Network.Interfaces()[n].Name, c.record.narrowed().of(n)
		if set := in.Bandwidth.Merge(narrowed); set != (netns.Bandwidth{}) {
			if err := c.Network.SetBandwidth(ctx, name, only(lower(in.Bandwidth, narrowed), set)); err != nil {
				return err
			}
		}
		if rank := rankOf(c.Spec.Class, in); rank != in.Bandwidth.Priority {
			err := c.Network.SetBandwidth(ctx, name, netns.Bandwidth{Priority: rank})
			if err != nil && !errors.Is(err, ErrNotSupported) { // which Create has said
				return err
			}
		}
	}
	return nil
}

// Cleanup removes the network; one that was joined is left to its owner.
func (i *networkIsolator) Cleanup(ctx context.Context, c *Container) error {
	spec := c.Spec.Network
	if spec.Mode == "" {
		return nil
	}
	if err := c.Network.Close(); err != nil {
		return err
	}
	if !spec.DNS.IsZero() {
		if err := os.RemoveAll(i.dns(c)); err != nil {
			return err
		}
	}
	if spec.Mode != netns.ModeNew {
		return nil
	}
	net, err := i.open(ctx)
	if err != nil {
		return err
	}
	return net.Destroy(ctx, c.Spec.ID)
}

// Release frees the descriptors.
func (i *networkIsolator) Release(c *Container) error { return c.Network.Close() }
