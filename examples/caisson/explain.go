// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
)

func explainCommand(a *app, _ *flag.FlagSet) func(context.Context, []string, []string) error {
	return func(ctx context.Context, ids, _ []string) (err error) {
		id, err := one(ids)
		if err != nil {
			return err
		}
		sb, done, err := a.sandbox(ctx, id)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		e, err := sb.Explain()
		if err != nil {
			return err
		}
		if a.json {
			return a.print(e)
		}
		if _, err = fmt.Fprintln(a.stdout, e); err != nil {
			return err
		}
		for _, p := range sb.Spec().Protections() {
			if _, err = fmt.Fprintln(a.stdout, p); err != nil {
				return err
			}
		}
		return nil
	}
}
