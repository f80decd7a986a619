// SPDX-License-Identifier: Apache-2.0

package logs

import "time"

// burst is how many seconds' worth of lines may come at once.
const burst = 5

// bucket lets an average of bytes a second through.
type bucket struct {
	rate int64 // 0: everything
	have int64
	last time.Time
}

func newBucket(rate int64) bucket { return bucket{rate: rate, have: burst * rate} }

// take reports whether n bytes may pass now.
func (b *bucket) take(n int64, now time.Time) bool {
	if b.rate == 0 {
		return true
	}
	if !b.last.IsZero() && now.After(b.last) {
		b.have = min(burst*b.rate, b.have+int64(now.Sub(b.last).Seconds()*float64(b.rate)))
	}
	b.last = now
	// A line that is longer than all of that passes when the bucket is full.
	if n > b.have && b.have < burst*b.rate {
		return false
	}
	b.have -= n
	return true
}
