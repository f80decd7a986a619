// SPDX-License-Identifier: Apache-2.0

package elastic

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// numbered is a recognisable event.
func numbered(n int) Event { return OOM{Kills: uint64(n)} }

func drain(q *queue) (all []Event) {
	for {
		e, ok, err := q.take()
		if !ok || err != nil {
			return all
		}
		all = append(all, e)
	}
}

func TestQueueOverflow(t *testing.T) {
	q := newQueue(3)
	for n := range 3 {
		q.put(numbered(n))
	}
	assert.Equal(t, []Event{numbered(0), numbered(1), numbered(2)}, drain(q))

	for n := range 7 {
		q.put(numbered(n))
	}
	when := time.Now()
	q.put(Gone{Time: when})
	assert.Equal(t, []Event{Lost{Time: when, N: 5}, numbered(5), numbered(6), Gone{Time: when}}, drain(q))

	q = newQueue(1)
	q.put(numbered(0))
	q.put(numbered(1))
	assert.Equal(t, []Event{Lost{N: 1}, numbered(1)}, drain(q))
}

func TestQueueMerges(t *testing.T) {
	q := newQueue(4)
	q.put(LimitHit{Resource: "memory.max", Count: 1})
	q.put(LimitHit{Resource: "pids.max", Count: 1})
	q.put(numbered(1))
	for range 100 {
		q.put(LimitHit{Resource: "memory.max", Count: 2})
	}
	assert.Equal(t, []Event{
		LimitHit{Resource: "memory.max", Count: 201}, LimitHit{Resource: "pids.max", Count: 1}, numbered(1),
	}, drain(q))
}

func TestQueueEnds(t *testing.T) {
	ctx := context.Background()
	q := newQueue(4)
	q.put(numbered(1))
	q.finish(io.EOF, false)
	q.put(numbered(2))
	e, err := q.next(ctx)
	require.NoError(t, err)
	assert.Equal(t, numbered(1), e, "what was queued before comes first")
	for range 2 {
		_, err = q.next(ctx)
		require.Equal(t, io.EOF, err)
	}
	q.finish(os.ErrClosed, true)
	_, err = q.next(ctx)
	require.ErrorIs(t, err, os.ErrClosed)

	q = newQueue(4)
	q.put(numbered(1))
	q.finish(os.ErrClosed, true)
	_, err = q.next(ctx)
	require.ErrorIs(t, err, os.ErrClosed, "a closed queue is over at once")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = q.next(cancelled)
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestQueueContext(t *testing.T) {
	q := newQueue(4)
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error)
	go func() {
		_, err := q.next(ctx)
		end <- err
	}()
	cancel()
	require.ErrorIs(t, <-end, context.Canceled)
	q.put(numbered(1))
	_, err := q.next(ctx)
	require.ErrorIs(t, err, context.Canceled, "also while there are events")
	e, err := q.next(context.Background())
	require.NoError(t, err)
	assert.Equal(t, numbered(1), e, "which are not lost by it")
}

// Whatever is put, what comes out is in order, and the numbers that are missing
// are exactly those that Lost counts.
func TestQueueLosesNothingSilently(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		q := newQueue(1 + r.IntN(9))
		put, expect := 0, 0
		read := func(e Event) {
			switch e := e.(type) {
			case Lost:
				expect += int(e.N)
			case OOM:
				require.EqualValues(t, expect, e.Kills, "seed %d", seed)
				expect++
			}
		}
		for range 300 {
			if r.IntN(2) == 0 {
				for range r.IntN(6) {
					q.put(numbered(put))
					put++
				}
			} else if e, ok, _ := q.take(); ok {
				read(e)
			}
		}
		for _, e := range drain(q) {
			read(e)
		}
		require.Equal(t, put, expect, "seed %d", seed)
	}
}

func TestQueueManyReaders(t *testing.T) {
	const n, readers = 1000, 4
	q := newQueue(n)
	got := make(chan Event, n)
	ends := make(chan error, readers)
	for range readers {
		go func() {
			for {
				e, err := q.next(context.Background())
				if err != nil {
					ends <- err
					return
				}
				got <- e
			}
		}()
	}
	for i := range n {
		q.put(numbered(i))
	}
	q.finish(io.EOF, false)
	for range readers {
		require.Equal(t, io.EOF, <-ends)
	}
	assert.Len(t, got, n)
}
