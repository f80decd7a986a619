// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"strings"
	"time"

	"github.com/caisson-run/caisson/internal/wire"
)

// Version is of the protocol.
const Version = 2

// op is what a message is about.
type op uint8

// The requests. opTaken alone has no reply.
const (
	opHello  op = iota // which process is this?
	opLaunch           // start a process
	opTaken            // the process that was launched is in good hands
	opFind             // what was launched by this id?
	opExit             // how did it end? The reply comes when it has
	opAck              // that is known now
	opForget           // there is no such id any more
	opKeep             // keep these descriptors by this name
	opKept             // give them back
	opList             // what is there, of all or of one sandbox's further processes?
	opReply            // what was asked for
)

// Bounds of what comes from outside.
const (
	maxID      = 96 // a sandbox's, and the name of a further process
	maxName    = 64
	maxMessage = 8 << 20 // argv and envp never get more than 6 MiB
	maxFDs     = 253     // SCM_MAX_FD
	maxNames   = 16      // for an id
	maxKept    = 32      // by a name
)

// Process is a process that was launched, and what tells it from others of its
// number: one of Inode and Since.
type Process struct {
	PID          int
	Inode, Since uint64
}

// same reports whether two are the same process.
func (p Process) same(o Process) bool {
	return p.PID == o.PID && p.Inode == o.Inode && p.Since == o.Since
}

// Exit is how a process ended.
type Exit struct {
	Known  bool      `json:"known"` // false: somebody else reaped it
	Code   int       `json:"code"`
	Signal int       `json:"signal,omitzero"`
	At     time.Time `json:"at"`
}

// Entry is what a supervisor has for an id.
type Entry struct {
	ID      string
	Process Process // zero: only descriptors
	Ended   bool
	Acked   bool
	Exit    Exit // of one that has ended
}

// Further is the id of a further process of a sandbox by that name.
func Further(sandbox, name string) string { return sandbox + ":" + name }

// Owner is the sandbox of an id, and the name of the further process if it is one's.
func Owner(id string) (sandbox, name string) {
	sandbox, name, _ = strings.Cut(id, ":")
	return sandbox, name
}

// message is one request or reply.
type message struct {
	Op       op
	ID, Name string
	Process  Process
	FD       int    // the process's, or the network namespace to be born in
	OOM      int    // oom_score_adj of the agent
	Spec     []byte // of internal/launch
	Files    []int  // its descriptors, or those to keep
	There    bool   // what was asked for exists
	Exit     Exit
	Failure  *failure
	Degraded []failure
	Entries  []Entry
}

// walk begins with a zero: a message that is elsewhere is the byte 1.
func (m *message) walk(c *wire.Codec) {
	elsewhere, version := byte(0), uint32(Version)
	wire.Number(c, &elsewhere)
	wire.Number(c, &version)
	if elsewhere != 0 || version != Version {
		c.Fail("version %d of the protocol, and this is version %d", version, Version)
	}
	wire.Number(c, &m.Op)
	wire.Text(c, &m.ID)
	wire.Text(c, &m.Name)
	walkProcess(c, &m.Process)
	wire.FD(c, &m.FD)
	wire.Number(c, &m.OOM)
	wire.Text(c, &m.Spec)
	wire.List(c, &m.Files, wire.FD)
	wire.Truth(c, &m.There)
	walkExit(c, &m.Exit)
	wire.Maybe(c, &m.Failure, walkFailure)
	wire.List(c, &m.Degraded, walkFailure)
	wire.List(c, &m.Entries, func(c *wire.Codec, e *Entry) {
		wire.Text(c, &e.ID)
		walkProcess(c, &e.Process)
		wire.Truth(c, &e.Ended)
		wire.Truth(c, &e.Acked)
		walkExit(c, &e.Exit)
	})
}

func walkProcess(c *wire.Codec, p *Process) {
	wire.Number(c, &p.PID)
	wire.Number(c, &p.Inode)
	wire.Number(c, &p.Since)
}

func walkExit(c *wire.Codec, e *Exit) {
	wire.Truth(c, &e.Known)
	wire.Number(c, &e.Code)
	wire.Number(c, &e.Signal)
	at := int64(0)
	if !e.At.IsZero() {
		at = e.At.UnixNano()
	}
	wire.Number(c, &at)
	if c.Reading() && at != 0 {
		e.At = time.Unix(0, at).UTC()
	}
}

// parse reads a message that came with these descriptors.
func parse(data []byte, fds []int) (*message, error) {
	m, c := &message{}, wire.Reader(data, fds)
	m.walk(c)
	if err := c.Ended(); err != nil {
		return nil, err
	}
	return m, nil
}

// validID reports whether id can be a sandbox's, and so the name of a file.
func validID(id string) bool { return validWord(id, maxID) && id[0] != '.' }

func validWord(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '/' {
			return false
		}
	}
	return true
}
