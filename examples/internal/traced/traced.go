// SPDX-License-Identifier: Apache-2.0

package traced

import (
	"context"
	"errors"
	"os"

	"github.com/caisson-run/caisson/elastic"
)

// Start runs a controller until stop is called, and records it into the file called
// name, for examples/replay; "" for none.
func Start(ctx context.Context, fleet elastic.Fleet, cfg elastic.Config, name string) (stop func() error, err error) {
	done := func() error { return nil }
	if name != "" {
		trace, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		cfg.Trace, done = trace, trace.Close
	}
	ctl, err := elastic.Start(ctx, fleet, cfg)
	if err != nil {
		return nil, errors.Join(err, done())
	}
	return func() error { return errors.Join(ctl.Close(), ctl.Err(), done()) }, nil
}
