// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
)

// JournalEntry is one thing that happened to a sandbox, as [Host.Journal] tells it.
type JournalEntry struct {
	// Seq counts the entries of a state directory: one that is missing was lost.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	ID   string    `json:"id"`

	// Event is "create", "start", "update", "claim", "unclaim", "end claims of",
	// "update network", "squeeze network", "freeze", "thaw", "kill", "exit", "destroy", "adopt",
	// "release", "recover" or "correction" (by an elastic controller, behind the
	// "freeze", "thaw" or "kill" that it was), or that of an [Event] of a sandbox that is watched:
	// "oom", "pressure", "limit", "drift".
	Event string `json:"event"`

	Changes []cgroups.Change `json:"changes,omitempty"` // what an update wrote, in order
	Exit    *ExitStatus      `json:"exit,omitempty"`
	Reason  string           `json:"reason,omitzero"` // of "recover" and "correction"
	Detail  json.RawMessage  `json:"detail,omitempty"`

	// Unwritten is how many entries before this one could not be written.
	Unwritten uint64 `json:"unwritten,omitzero"`
}

// journal is two files of lines in the state directory: the one that grows, and
// the one before it.
type journal struct {
	path   string
	most   int64 // bytes of both
	shared bool

	mu        sync.Mutex
	file      *os.File
	size      int64
	seq       uint64
	unwritten uint64
}

const (
	journalName = "events"
	olderName   = journalName + ".1"
	minJournal  = 4096
)

// openJournal opens the journal in the directory root; nil if it may have no
// bytes.
func openJournal(root string, most int64, shared bool) (*journal, error) {
	switch {
	case most == 0:
		return nil, nil //nolint:nilnil // the methods of a nil journal do nothing
	case most < minJournal:
		return nil, &InvalidError{Field: "journal", Value: fmt.Sprint(most), Reason: fmt.Sprintf("less than %d bytes", minJournal)}
	}
	j := &journal{path: filepath.Join(root, journalName), most: most, shared: shared}
	return j, j.alone(func() error { return nil })
}

// alone runs do with the file open and the last number known, while no other
// process writes.
func (j *journal) alone(do func() error) error {
	if j.file != nil && !j.shared {
		return do()
	}
	for {
		f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		if err = flock(f, syscall.LOCK_EX); err == nil {
			var here bool
			if here, err = sameFile(f, j.path); err == nil && !here {
				_ = f.Close() // begun anew meanwhile
				continue
			}
		}
		if err == nil {
			err = j.read(f)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		j.file = f
		break
	}
	err := do()
	if j.shared {
		err = errors.Join(err, j.file.Close())
		j.file = nil
	}
	return err
}

func sameFile(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(a, b), err
}

// read finds the last number, and cuts a torn line off.
func (j *journal) read(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	j.size = info.Size()
	last, whole, err := lastLine(f, j.size)
	if err != nil {
		return err
	}
	if whole < j.size {
		if err := f.Truncate(whole); err != nil {
			return err
		}
		j.size = whole
	}
	if last == nil {
		older, err := os.Open(filepath.Join(filepath.Dir(j.path), olderName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer older.Close()
		if info, err = older.Stat(); err != nil {
			return err
		}
		if last, _, err = lastLine(older, info.Size()); err != nil {
			return err
		}
	}
	var e JournalEntry
	if json.Unmarshal(last, &e) == nil {
		j.seq = max(j.seq, e.Seq)
	}
	return nil
}

// lastLine is the last whole line among the first size bytes of f, nil if there is
// none, and where it ends.
func lastLine(f io.ReaderAt, size int64) (line []byte, end int64, err error) {
	text := make([]byte, 0, 4096)
	for at := size; ; {
		from := max(0, at-4096)
		block := make([]byte, at-from)
		if _, err := f.ReadAt(block, from); err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		text, at = append(block, text...), from
		stop := bytes.LastIndexByte(text, '\n')
		if stop >= 0 {
			if start := bytes.LastIndexByte(text[:stop], '\n'); start >= 0 || at == 0 {
				return text[start+1 : stop], at + int64(stop) + 1, nil
			}
		}
		if at == 0 {
			return nil, 0, nil
		}
	}
}

// add writes an entry. What cannot be written is counted in the next that can: the
// journal keeps nobody from anything.
func (j *journal) add(e JournalEntry) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.alone(func() error {
		e.Seq, e.Unwritten = j.seq+1, j.unwritten
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		line = append(line, '\n')
		if j.size > 0 && j.size+int64(len(line)) > j.most/2 {
			if err := j.turn(); err != nil {
				return err
			}
		}
		n, err := j.file.Write(line)
		if err != nil {
			return errors.Join(err, j.file.Truncate(j.size))
		}
		j.size += int64(n)
		j.seq, j.unwritten = e.Seq, 0
		return nil
	})
	if err != nil {
		j.unwritten++
	}
}

// turn begins a new file.
func (j *journal) turn() error {
	if err := os.Rename(j.path, filepath.Join(filepath.Dir(j.path), olderName)); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	err = j.file.Close()
	j.file, j.size = f, 0
	if j.shared {
		err = errors.Join(err, flock(f, syscall.LOCK_EX))
	}
	return err
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// Journal goes through what has happened to the sandboxes of this state directory,
// the oldest first, as far back as [Config.Journal] allows. A line that makes no
// sense is an error, and those that follow come nevertheless.
func (h *Host) Journal() iter.Seq2[JournalEntry, error] { return readJournal(h.cfg.Root) }

func readJournal(root string) iter.Seq2[JournalEntry, error] {
	return func(yield func(JournalEntry, error) bool) {
		var last uint64
		for _, name := range []string{olderName, journalName} {
			f, err := os.Open(filepath.Join(root, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				yield(JournalEntry{}, err)
				return
			}
			lines := bufio.NewReader(f)
			for {
				line, err := lines.ReadBytes('\n')
				if errors.Is(err, io.EOF) {
					break // and a torn line is none
				}
				var e JournalEntry
				if err == nil {
					err = json.Unmarshal(line, &e)
				}
				if err == nil && e.Seq <= last {
					continue // the file was begun anew between the two looks
				}
				if err != nil {
					e = JournalEntry{}
					err = fmt.Errorf("%s: %w", f.Name(), err)
				}
				last = max(last, e.Seq)
				if !yield(e, err) {
					_ = f.Close()
					return
				}
			}
			if err := f.Close(); err != nil {
				yield(JournalEntry{}, err)
				return
			}
		}
	}
}

// note writes an entry about the sandbox.
func (s *Sandbox) note(e JournalEntry) {
	if s.host.journal == nil {
		return
	}
	e.ID, e.Time = s.id, s.host.clock.now().Round(0)
	s.host.journal.add(e)
}

// noteEvent writes an entry for those events that tell more than the kernel does
// later.
func (s *Sandbox) noteEvent(ev Event) {
	if s.host.journal == nil {
		return
	}
	var name string
	switch ev.(type) {
	case OOM:
		name = "oom"
	case Pressure:
		name = "pressure"
	case LimitHit:
		name = "limit"
	case Drift:
		name = "drift"
	default:
		return
	}
	detail, err := json.Marshal(ev)
	if err == nil {
		s.note(JournalEntry{Event: name, Detail: detail})
	}
}

// starting keeps the end of a process back until its start is in the journal.
type starting struct {
	mu   sync.Mutex
	now  bool
	exit *ExitStatus
}

func (p *starting) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = true
}

// noteStart ends what begin began.
func (s *Sandbox) noteStart(err error) {
	p := &s.starting
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		s.note(JournalEntry{Event: "start"})
		if p.exit != nil {
			s.note(JournalEntry{Event: "exit", Exit: p.exit})
		}
	}
	p.now, p.exit = false, nil
}

// noteExit is called once, when the first process has ended.
func (s *Sandbox) noteExit(exit ExitStatus) {
	p := &s.starting
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now {
		p.exit = &exit
		return
	}
	s.note(JournalEntry{Event: "exit", Exit: &exit})
}
