// SPDX-License-Identifier: Apache-2.0

package poll

// Events is a set of epoll's events, with the kernel's values.
type Events uint32

// What to wait for, and what is reported. Err and Hup are always reported.
const (
	In  Events = 0x1  // EPOLLIN: eventfd counted, process ended
	Pri Events = 0x2  // EPOLLPRI: kernfs file changed, pressure crossed a threshold
	Err Events = 0x8  // EPOLLERR: together with Pri on kernfs files; alone when gone
	Hup Events = 0x10 // EPOLLHUP

	// Once removes the registration when its first event arrives, before the
	// function is called. It is never reported.
	Once Events = 1 << 30 // EPOLLONESHOT
)

// Token names one registration of one descriptor. No two registrations of a
// [Poller] have the same, and none is 0.
type Token uint64
