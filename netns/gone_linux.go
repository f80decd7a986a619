// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/namespaces"
	"github.com/vishvananda/netlink"
)

// defaultLinger is how long a link may take to go after the last hold on its
// namespace. The kernel takes some milliseconds. Where many namespaces end at once
// it takes longer, and to delete what is on its way out does no harm.
const defaultLinger = time.Second

// awaitGone returns once the machine has no link called name of the owner any
// more, and reports whether it had one. One that stays is deleted; a link of that
// name which is not ours is left alone.
func (n *Network) awaitGone(ctx context.Context, owner, name string) (there bool, err error) {
	link, err := n.machine.Link(ctx, name)
	if errors.Is(err, os.ErrNotExist) || err == nil && !n.owns(owner, link) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	events, err := watchLinks(n.ns)
	if err != nil {
		return true, err
	}
	defer events.Close()
	wait, cancel := context.WithTimeout(ctx, n.linger)
	defer cancel()
	err = events.untilDeleted(wait, link.Index, func() (bool, error) {
		_, err := n.machine.Link(ctx, name)
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		return false, err
	})
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return true, err
	}
	// Somebody holds the namespace.
	_, err = once(ctx, n.machine, "delete", name, func(s *netlink.Handle) (struct{}, error) {
		err := s.LinkDel(byIndex(link.Index))
		if errors.Is(err, syscall.ENODEV) {
			err = nil
		}
		return struct{}{}, err
	})
	return true, err
}

// owns reports whether a link that has a name of the owner's is one: a veth with
// the alias, or without any if a crash came before that was set.
func (n *Network) owns(owner string, l Link) bool {
	return l.Alias == n.alias(owner) || l.Alias == "" && l.Kind == string(Veth)
}

// retry calls f again if err says that the name of the owner's link is still
// taken by one that is on its way out.
func (n *Network) retry(ctx context.Context, owner, name string, err error, f func() error) error {
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if was, gone := n.awaitGone(ctx, owner, name); gone != nil || !was {
		return errors.Join(err, gone)
	}
	return f()
}

// linkEvents hears what happens to the links of a namespace.
type linkEvents struct{ file *os.File }

// watchLinks begins to listen.
func watchLinks(ns *namespaces.Handle) (*linkEvents, error) {
	e := &linkEvents{}
	err := namespaces.Do(func() error {
		fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.NETLINK_ROUTE)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		const links = 1 // RTMGRP_LINK
		if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: links}); err != nil {
			_ = syscall.Close(fd)
			return os.NewSyscallError("bind", err)
		}
		e.file = os.NewFile(uintptr(fd), "netlink")
		return nil
	}, ns)
	if err != nil {
		return nil, &OpError{Op: "listen", NS: ns.ID(), Err: err}
	}
	return e, nil
}

// Close ends the listening.
func (e *linkEvents) Close() error { return e.file.Close() }

// untilDeleted returns once the link of that index is deleted, or gone says that
// it is, which is asked first and where events were lost.
func (e *linkEvents) untilDeleted(ctx context.Context, index int, gone func() (bool, error)) error {
	stop := context.AfterFunc(ctx, func() { _ = e.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 64<<10)
	for look := true; ; {
		if look {
			if is, err := gone(); is || err != nil {
				return err
			}
			look = false
		}
		size, err := e.file.Read(buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, syscall.ENOBUFS): // the kernel dropped some
			look = true
			continue
		case err != nil:
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:size])
		if err != nil {
			look = true
			continue
		}
		for _, m := range messages {
			if m.Header.Type == syscall.RTM_DELLINK && deletedIndex(m.Data) == index {
				return nil
			}
		}
	}
}

// deletedIndex is the index in a struct ifinfomsg.
func deletedIndex(b []byte) int {
	if len(b) < syscall.SizeofIfInfomsg {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(b[4:])))
}
