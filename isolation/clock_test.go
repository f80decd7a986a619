// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"sync"
	"time"
)

// manual is a clock that stands still until it is told to go on.
type manual struct {
	mu     sync.Mutex
	at     time.Time
	set    time.Duration // by how much somebody has set the wall clock
	timers []*manualTimer
}

type manualTimer struct {
	at time.Time
	fn func()
}

func newManual() *manual { return &manual{at: time.Unix(1e9, 0)} }

func (m *manual) clock() clock { return clock{m.now, m.after, m.uptime} }

func (m *manual) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at.Add(m.set)
}

func (m *manual) uptime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at.Sub(time.Unix(9e8, 0))
}

// jump sets the wall clock.
func (m *manual) jump(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set += d
}

func (m *manual) after(d time.Duration, fn func()) func() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &manualTimer{m.at.Add(d), fn}
	m.timers = append(m.timers, t)
	return func() bool { return m.take(t) }
}

func (m *manual) take(t *manualTimer) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, other := range m.timers {
		if other == t {
			m.timers = append(m.timers[:i:i], m.timers[i+1:]...)
			return true
		}
	}
	return false
}

// pass lets time go by. What is due runs one after the other, each at its time.
func (m *manual) pass(d time.Duration) {
	m.mu.Lock()
	end := m.at.Add(d)
	m.mu.Unlock()
	for {
		m.mu.Lock()
		var next *manualTimer
		for _, t := range m.timers {
			if !t.at.After(end) && (next == nil || t.at.Before(next.at)) {
				next = t
			}
		}
		m.at = end
		if next != nil {
			m.at = next.at
		}
		m.mu.Unlock()
		if next == nil {
			return
		}
		if m.take(next) {
			next.fn()
		}
	}
}

// Manual has the time of hosts of c stand still until pass is called.
func Manual(c *Config) (pass func(time.Duration)) {
	m := newManual()
	c.clock = m.clock()
	return m.pass
}
