// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package launch

import (
	"slices"

	"golang.org/x/sys/unix"
)

// closeGaps closes what the child does not need of the descriptors below needed. A
// child whose maps never come, because the caller was killed, must not hold the
// caller's locks.
func (p *Program) closeGaps(s *Spec) {
	keep := append([]int{p.needed(s)}, s.Files...)
	if s.Files == nil {
		keep = append(keep, 0, 1, 2)
	}
	for _, j := range s.Join {
		keep = append(keep, j.FD)
	}
	if s.Root != nil {
		keep = append(keep, s.Root.descriptors()...)
	}
	if s.Stub != nil {
		keep = append(keep, s.Stub.fd.Int(), p.report.write.Int())
	}
	if s.Ticket != nil {
		keep = append(keep, s.Ticket.FD)
	}
	if p.word != nil {
		keep = append(keep, p.word.event.Int(), p.word.parent.Int())
	}
	slices.Sort(keep)
	last := -1 // which is no descriptor, as of Files that are to be closed
	for _, fd := range keep {
		if fd > last+1 {
			p.add(unix.SYS_CLOSE_RANGE, last+1, fd-1, 0)
		}
		last = max(last, fd)
	}
}

// needed is a number above all descriptors that the child needs once it is in
// its cgroups. It is a multiple of 64: before commit 678379e1d4f7 ("close_range():
// fix the logics in descriptor table trimming", Linux 6.12) a table cut elsewhere
// had numbers in use without a file.
func (p *Program) needed(s *Spec) int {
	most := 2
	for _, fd := range s.Files {
		most = max(most, fd)
	}
	for _, j := range s.Join {
		most = max(most, j.FD)
	}
	if s.Root != nil {
		most = max(most, slices.Max(append(s.Root.descriptors(), most)))
	}
	if s.Stub != nil {
		most = max(most, s.Stub.fd.Int(), p.report.write.Int())
	}
	if s.Ticket != nil {
		most = max(most, s.Ticket.FD)
	}
	for _, l := range p.layers {
		most = max(most, l.FD)
	}
	if p.word != nil {
		most = max(most, p.word.event.Int(), p.word.parent.Int())
	}
	return (most/64 + 1) * 64
}

// closeOthers closes all but Files.
func (p *Program) closeOthers(s *Spec) {
	keep := s.kept()
	if s.Stub != nil {
		p.keepStub(keep)
		keep += 2
	}
	p.add(unix.SYS_CLOSE_RANGE, keep, uintptr(^uint32(0)), 0)
}

// kept is how many descriptors the program gets.
func (s *Spec) kept() int {
	if s.Files == nil {
		return 3
	}
	return len(s.Files)
}
