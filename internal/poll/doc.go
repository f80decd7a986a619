// SPDX-License-Identifier: Apache-2.0

// Package poll waits for any number of descriptors on one goroutine.
//
// A [Poller] is an epoll instance, an eventfd that Close uses to wake it, and a
// timer. Its owner calls [Poller.Wait] in a loop, and each ready descriptor's
// function runs inside that call; what is called when the timer runs out does not.
// None of them runs at the same time as another.
//
// Every descriptor is edge-triggered: a function is called once per change, and
// a condition that nobody clears (a removed cgroup, a process that has ended)
// cannot make the loop spin.
//
// Registrations are known by a [Token] that is never used twice, not by
// descriptor number: an event that was already on its way when its registration
// was removed finds nothing, also when the number was given to another file
// meanwhile.
//
// # Why not the runtime's own poller
//
// It waits for EPOLLIN and EPOLLOUT, and pressure triggers announce themselves
// with EPOLLPRI. Putting this epoll instance into the runtime's does not help:
// to find out whether an instance inside is ready, the kernel polls the files
// in it, and polling a pressure trigger (psi_trigger_poll) takes its event
// away. So Wait blocks a thread, one for all descriptors.
//
// The timer is the runtime's. A timer of the kernel's among the descriptors would
// wake the thread that blocks, and after a thread that blocks in the kernel the
// runtime's monitor looks dozens of times in the 10 ms until it takes for granted that
// it stays there: with ten ticks a second more than what the ticks do themselves.
//
// # Removed cgroups
//
// [Removals] is a companion for what no descriptor tells: that a directory was
// removed.
package poll
