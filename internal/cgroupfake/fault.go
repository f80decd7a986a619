// SPDX-License-Identifier: Apache-2.0

package cgroupfake

// OpKind is a kind of operation on the fake file system.
type OpKind uint8

// The operations that a hook is asked about.
const (
	Write OpKind = iota + 1
	Read
	Open
	Mkdir
	Rmdir
)

// Op is one operation.
type Op struct {
	Kind  OpKind
	V2    bool   // in the cgroup2 tree
	Group string // the path of the group, empty for the top
	File  string // or the group's name, of Mkdir, Rmdir and Open
	Data  string
}

// Outcome is what a hook makes of an operation. The zero Outcome lets it be.
type Outcome struct {
	Err    error           // the answer
	Effect bool            // with Err: the operation is done all the same
	Short  int             // so many bytes of a write are taken; 0 is all
	Block  <-chan struct{} // wait for it first
}

// Hook makes f decide over each operation; nil lets all be. f runs without the
// machine's lock, so it may use the machine.
func (m *Machine) Hook(f func(Op) Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = f
}

// ask asks the hook, with the lock released for as long.
func (m *Machine) ask(op Op) Outcome {
	if op.Kind == Write && len(m.writes) < mostWrites {
		m.writes = append(m.writes, op)
	}
	hook := m.hook
	if hook == nil {
		return Outcome{}
	}
	m.mu.Unlock()
	defer m.mu.Lock()
	out := hook(op)
	if out.Block != nil {
		<-out.Block
	}
	return out
}

// mostWrites bounds what is remembered for [Machine.Writes].
const mostWrites = 1 << 16

// Writes are the writes since the last call, in order, up to 65536.
func (m *Machine) Writes() []Op {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.writes
	m.writes = nil
	return all
}
