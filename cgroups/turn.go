// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"fmt"
	"sync"
)

// turn is a lock that is waited for no longer than a context lives.
type turn struct {
	once sync.Once
	held chan struct{} // holds a token while somebody has the lock
}

func (t *turn) take(ctx context.Context) error {
	t.once.Do(func() { t.held = make(chan struct{}, 1) })
	select {
	case t.held <- struct{}{}:
		return nil
	default:
	}
	select {
	case t.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another update: %w", context.Cause(ctx))
	}
}

func (t *turn) give() { <-t.held }
