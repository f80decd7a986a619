// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/linux"
)

// Pool gives out the addresses of one subnet. What it gave is known on disk, to
// other processes and to later ones, until it is released or the machine is
// restarted. It is safe for concurrent use.
type Pool struct {
	cfg    PoolConfig
	dir    string // of this boot
	lock   string
	uptime func() (time.Duration, error)
}

// OpenPool opens the pool of c whose files are in the directory dir, which
// belongs on a file system that is empty after a reboot. Leases of earlier boots
// are dropped. A pool with another subnet than its leases matches [ErrInvalid].
func OpenPool(dir string, c PoolConfig) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	boot, err := linux.BootID()
	if err != nil {
		return nil, err
	}
	top := filepath.Join(dir, c.Name)
	p := &Pool{cfg: c, dir: filepath.Join(top, boot), lock: filepath.Join(top, "lock"), uptime: linux.Uptime}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	err = p.locked(context.Background(), func() error {
		others, err := os.ReadDir(top)
		if err != nil {
			return err
		}
		for _, o := range others {
			if o.IsDir() && o.Name() != boot {
				if err := os.RemoveAll(filepath.Join(top, o.Name())); err != nil {
					return err
				}
			}
		}
		all, err := p.entries()
		for _, e := range all {
			if !c.Subnet.Contains(e.Addr) {
				return errors.Join(err, fmt.Errorf("pool %q: %w: its subnet is now %s, and %s is leased", c.Name, ErrInvalid, c.Subnet, e.Addr))
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Config is what the pool was opened with.
func (p *Pool) Config() PoolConfig { return p.cfg }

// locked runs f while no other process or goroutine uses the pool.
func (p *Pool) locked(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := os.OpenFile(p.lock, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	// Held for a few system calls at a time, so there is no deadline.
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err == nil {
			return f()
		}
		if err != syscall.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// entries reads the directory. A name that makes no sense is an error: it was
// not written by a pool.
func (p *Pool) entries() ([]entry, error) {
	d, err := os.Open(p.dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make([]entry, 0, len(names))
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue // a file system's own
		}
		e, err := parseEntry(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.dir, err)
		}
		all = append(all, e)
	}
	return all, nil
}

func (p *Pool) path(e entry) string { return filepath.Join(p.dir, e.name()) }

// Allocate gives the owner an address, its index-th of this pool: the one that
// it has, or a new one. The prefix has the length of the subnet.
//
// The addresses are given in order, so that one that was freed is not given
// again before most others. Errors: [*ExhaustedError]; [ErrInvalid]; those of
// the file system, with nothing given.
func (p *Pool) Allocate(ctx context.Context, owner string, index int) (netip.Prefix, error) {
	v := &validator{}
	v.add(checkOwner(owner))
	if index < 0 || index > maxEach {
		v.bad("index", fmt.Sprint(index), fmt.Sprintf("not 0 to %d", maxEach))
	}
	if len(v.errs) > 0 {
		return netip.Prefix{}, errors.Join(v.errs...)
	}
	var got netip.Addr
	err := p.locked(ctx, func() (err error) {
		got, err = p.allocate(owner, index)
		return err
	})
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(got, p.cfg.Subnet.Bits()), nil
}

// hold makes sure that an address which is in use is leased to its owner. One that
// somebody else has, or that was freed, stays as it is.
func (p *Pool) hold(ctx context.Context, owner string, index int, addr netip.Addr) error {
	lease := p.path(entry{Lease: Lease{Owner: owner, Index: index, Addr: addr}})
	if _, err := os.Lstat(lease); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return p.locked(ctx, func() error {
		all, err := p.entries()
		if err != nil || slices.ContainsFunc(all, func(e entry) bool { return e.Addr == addr }) {
			return err
		}
		f, err := os.OpenFile(lease, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// maxRested bounds how many freed addresses are kept on record before one of
// them is given rather than a new one.
const maxRested = 256

func (p *Pool) allocate(owner string, index int) (netip.Addr, error) {
	all, err := p.entries()
	if err != nil {
		return netip.Addr{}, err
	}
	now, err := p.uptime()
	if err != nil {
		return netip.Addr{}, err
	}
	taken := make(map[netip.Addr]bool, len(all))
	full := &ExhaustedError{Pool: p.cfg.Name, Subnet: p.cfg.Subnet}
	var rested []entry // free again, and usable still
	for _, e := range all {
		taken[e.Addr] = true
		switch {
		case e.Owner == owner && e.Index == index:
			return e.Addr, nil
		case e.Owner != "":
			full.Leased++
		case now-e.freed >= p.quarantine():
			if p.cfg.usable(e.Addr) {
				rested = append(rested, e)
			}
		default:
			full.Quarantined++
		}
	}
	lease := entry{Lease: Lease{Owner: owner, Index: index}}
	if len(rested) <= maxRested {
		lease.Addr = p.fresh(taken)
	}
	if lease.Addr.IsValid() {
		f, err := os.OpenFile(p.path(lease), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return netip.Addr{}, err
		}
		return lease.Addr, f.Close()
	}
	if len(rested) == 0 {
		return netip.Addr{}, full
	}
	oldest := slices.MinFunc(rested, func(a, b entry) int { return cmp.Compare(a.freed, b.freed) })
	lease.Addr = oldest.Addr
	return lease.Addr, os.Rename(p.path(oldest), p.path(lease))
}

func (p *Pool) quarantine() time.Duration {
	if p.cfg.Quarantine == 0 {
		return DefaultQuarantine
	}
	return p.cfg.Quarantine
}

// fresh is the first address that nobody has or had, or none.
func (p *Pool) fresh(taken map[netip.Addr]bool) netip.Addr {
	for a := p.cfg.Subnet.Addr(); p.cfg.Subnet.Contains(a); a = a.Next() {
		for _, r := range p.cfg.Reserved {
			if r.Contains(a) {
				a = lastOf(r.Masked())
			}
		}
		if p.cfg.usable(a) && !taken[a] {
			return a
		}
	}
	return netip.Addr{}
}

// Release frees every address of the owner, for others once the quarantine is
// over. An owner without any is nil.
func (p *Pool) Release(ctx context.Context, owner string) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	return p.locked(ctx, func() error {
		all, err := p.entries()
		if err != nil {
			return err
		}
		now, err := p.uptime()
		if err != nil {
			return err
		}
		var errs []error
		for _, e := range all {
			if e.Owner == owner {
				errs = append(errs, os.Rename(p.path(e), p.path(entry{Lease: Lease{Addr: e.Addr}, freed: now})))
			}
		}
		return errors.Join(errs...)
	})
}

// Leases lists the addresses in use, in order.
func (p *Pool) Leases(ctx context.Context) ([]Lease, error) {
	var leases []Lease
	err := p.locked(ctx, func() error {
		all, err := p.entries()
		for _, e := range all {
			if e.Owner != "" {
				leases = append(leases, e.Lease)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(leases, func(a, b Lease) int { return a.Addr.Compare(b.Addr) })
	return leases, nil
}
