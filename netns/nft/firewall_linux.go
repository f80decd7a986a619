// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/caisson-run/caisson/netns"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// Firewall is a table of its own. It implements [netns.Firewall], and is safe for
// concurrent use.
type Firewall struct {
	table *nftables.Table
	sets  [setCount]*nftables.Set

	turn   chan struct{} // has room for one: whoever put it there uses the connection
	closed chan struct{}
	once   sync.Once
	conn   *nftables.Conn
	asks   *netlink.Conn // what the library has no call for
}

// Open makes the table of c, or takes over the one of an earlier process: the
// rules are made anew, and the sandboxes stay. Errors: [netns.ErrInvalid];
// [netns.ErrNotSupported] if this kernel lacks nftables or a part of it;
// [os.ErrPermission] without CAP_NET_ADMIN.
func Open(ctx context.Context, c Config) (*Firewall, error) {
	if err := (netns.Config{Scope: c.Scope}).Validate(); err != nil {
		return nil, err
	}
	f := &Firewall{
		table: &nftables.Table{Name: "caisson-" + c.Scope, Family: nftables.TableFamilyINet},
		turn:  make(chan struct{}, 1), closed: make(chan struct{}),
	}
	for id := range setCount {
		f.sets[id] = newSet(f.table, id)
	}
	options := []nftables.ConnOption{nftables.AsLasting()}
	machine := c.Machine
	if machine == nil {
		own, err := namespaces.Current(namespaces.Network)
		if err != nil {
			return nil, err
		}
		defer own.Close()
		machine = own
	}
	// The library would use the descriptor from another thread later; the socket
	// that it opens now is all that has to be inside.
	var err error
	if doErr := namespaces.Do(func() error {
		if f.conn, err = nftables.New(options...); err == nil {
			f.asks, err = netlink.Dial(netfilter, nil)
		}
		return nil
	}, machine); doErr != nil {
		err = doErr
	}
	if err != nil {
		return nil, errors.Join(explain("open", err), f.Close())
	}
	if err := f.do(ctx, "make", func() error { return f.build(c.Masquerade) }); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// do runs f alone on the connection. If ctx ends first, f ends by itself and the
// next call waits for that.
func (f *Firewall) do(ctx context.Context, op string, change func() error) error {
	select {
	case <-f.closed:
		return explain(op, os.ErrClosed)
	case <-ctx.Done():
		return explain(op, ctx.Err())
	case f.turn <- struct{}{}:
	}
	done := make(chan error, 1)
	go func() {
		defer f.release()
		done <- change()
	}()
	select {
	case err := <-done:
		return explain(op, err)
	case <-ctx.Done():
		return explain(op, ctx.Err())
	case <-f.closed:
		return explain(op, os.ErrClosed)
	}
}

func (f *Firewall) release() {
	<-f.turn
	select {
	case <-f.closed:
		f.free()
	default:
	}
}

// free closes the connection, unless somebody uses it: then release does.
func (f *Firewall) free() {
	select {
	case f.turn <- struct{}{}: // and never taken out again
		if f.conn != nil {
			_ = f.conn.CloseLasting()
		}
		if f.asks != nil {
			_ = f.asks.Close()
		}
	default:
	}
}

// Close frees the connection. The table and its rules stay. Closing twice is nil.
func (f *Firewall) Close() error {
	f.once.Do(func() {
		close(f.closed)
		f.free()
	})
	return nil
}

// Delete removes the table with all its rules. Close still has to be called.
func (f *Firewall) Delete(ctx context.Context) error {
	return f.do(ctx, "delete", func() error {
		f.conn.DelTable(f.table)
		err := f.conn.Flush()
		if errors.Is(err, syscall.ENOENT) {
			err = nil
		}
		return err
	})
}

// Set makes these the rules of the owner, in one transaction. Errors:
// [os.ErrExist] if a port or an address is another owner's.
func (f *Firewall) Set(ctx context.Context, owner string, r netns.Rules) error {
	want := elements(r)
	return f.do(ctx, "set rules of "+owner, func() error {
		have, err := f.of(func(o string) bool { return o == owner })
		if err != nil {
			return err
		}
		var add, drop [setCount][]nftables.SetElement
		for _, e := range have {
			if !slices.Contains(want, e.element) {
				drop[e.set] = append(drop[e.set], e.raw())
			}
		}
		for _, e := range want {
			if !slices.ContainsFunc(have, func(o owned) bool { return o.element == e }) {
				add[e.set] = append(add[e.set], owned{e, owner}.raw())
			}
		}
		return f.change(drop, add)
	})
}

// change is one transaction, with as few messages as possible: the kernel answers
// each, and what does not fit into the socket is lost.
func (f *Firewall) change(drop, add [setCount][]nftables.SetElement) error {
	for id, set := range f.sets {
		if len(drop[id]) > 0 {
			if err := f.conn.SetDeleteElements(set, drop[id]); err != nil {
				return err
			}
		}
	}
	for id, set := range f.sets {
		if len(add[id]) > 0 {
			if err := f.conn.SetAddElements(set, add[id]); err != nil {
				return err
			}
		}
	}
	return f.conn.Flush()
}

// Remove takes the owner's rules away. None is nil.
func (f *Firewall) Remove(ctx context.Context, owner string) error {
	return f.do(ctx, "remove rules of "+owner, func() error {
		have, err := f.of(func(o string) bool { return o == owner })
		if err != nil || len(have) == 0 {
			return err
		}
		var drop [setCount][]nftables.SetElement
		for _, e := range have {
			drop[e.set] = append(drop[e.set], e.raw())
		}
		return f.change(drop, [setCount][]nftables.SetElement{})
	})
}

// Owners lists whom there are rules of.
func (f *Firewall) Owners(ctx context.Context) ([]string, error) {
	found := make(chan []string, 1) // the call may return before the list is read
	err := f.do(ctx, "list rules", func() error {
		all, err := f.of(func(string) bool { return true })
		var owners []string
		for _, e := range all {
			owners = append(owners, e.owner)
		}
		slices.Sort(owners)
		found <- slices.Compact(owners)
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-found, nil
}

// owned is an element in the kernel.
type owned struct {
	element
	owner string
}

func (e owned) raw() nftables.SetElement {
	s := nftables.SetElement{Key: []byte(e.key), Comment: e.owner}
	if e.value != "" {
		s.Val = []byte(e.value)
	}
	return s
}

// of reads the elements of the owners that match.
func (f *Firewall) of(match func(owner string) bool) ([]owned, error) {
	var all []owned
	for id, set := range f.sets {
		list, err := f.list(set)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if match(e.Comment) {
				all = append(all, owned{element{setID(id), string(e.Key), string(e.Val)}, e.Comment})
			}
		}
	}
	return all, nil
}

// attempts bounds how often a set is read again. Whoever changes rules all that
// time leaves no state to report.
const attempts = 20

// list reads a set as it is between two transactions: the kernel hands a long one
// out in parts, and what others change meanwhile may be in none of them.
func (f *Firewall) list(set *nftables.Set) ([]nftables.SetElement, error) {
	for range attempts {
		before, err := f.generation()
		if err != nil {
			return nil, err
		}
		list, err := f.conn.GetSetElements(set)
		if err != nil {
			return nil, err
		}
		after, err := f.generation()
		if err != nil {
			return nil, err
		}
		if before == after {
			return list, nil
		}
	}
	return nil, netns.ErrInterrupted
}

// Error is a failed operation on the table.
type Error struct {
	Op  string // "make", "set rules of web-1", ...
	Err error
}

// Error reads "nftables: set rules of web-1: file exists".
func (e *Error) Error() string { return "nftables: " + e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// explain names the operation, and tells what a kernel without nftables says from
// what one without permission does.
func explain(op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPROTONOSUPPORT) || errors.Is(err, syscall.EAFNOSUPPORT) ||
		errors.Is(err, syscall.EINVAL) && op == "open" || errors.Is(err, syscall.ENOENT) && op == "make" {
		err = &namespaces.UnsupportedError{Feature: "nftables", Reason: "this kernel has none, or lacks a module: nft_nat, nft_masq, nft_fib_inet", Err: err}
	}
	return &Error{Op: op, Err: err}
}
