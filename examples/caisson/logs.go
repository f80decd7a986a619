// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"time"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/logs"
)

func logsCommand(a *app, fs *flag.FlagSet) func(context.Context, []string, []string) error {
	follow := fs.Bool("follow", false, "go on to what comes, until the program ends")
	since := fs.Duration("since", 0, "leave out what is older than this `DURATION`, such as 10m")
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
		config := sb.Spec().Logs
		if config == nil {
			return fmt.Errorf("%q keeps no log: it was made without --logs", id)
		}
		p := &logPrinter{app: a}
		if *since > 0 {
			p.after = time.Now().Add(-*since)
		}
		if !*follow {
			if err := taken(ctx, sb); err != nil {
				return err
			}
			return p.print(logs.Read(sb.LogDirectory(), config.Format))
		}
		running, stop := context.WithCancel(ctx)
		defer stop()
		ended := make(chan error, 1)
		go func() {
			_, err := sb.Wait(running)
			ended <- errors.Join(err, taken(ctx, sb))
			stop()
		}()
		err = p.print(logs.Follow(running, sb.LogDirectory(), config.Format))
		stop() // also if nobody reads what is printed
		if werr := <-ended; ctx.Err() == nil && err == nil {
			err = werr
		}
		return err
	}
}

// taken has everything in the log that was written, unless another invocation keeps
// it. Once the program has ended, its last line counts also without an end.
func taken(ctx context.Context, sb *isolation.Sandbox) error {
	log := sb.Logs()
	if log == nil {
		return nil
	}
	if st, err := sb.Check(ctx); err != nil || st.State != isolation.StateExited {
		return errors.Join(err, log.Sync())
	}
	return log.Finish()
}

// logPrinter prints lines.
type logPrinter struct {
	app   *app
	after time.Time
}

// logLine is a line as JSON.
type logLine struct {
	Time    time.Time `json:"time,omitzero"`
	Stream  string    `json:"stream"`
	Text    string    `json:"text"`
	Partial bool      `json:"partial,omitzero"`
}

func (p *logPrinter) print(lines iter.Seq2[logs.Line, error]) error {
	for line, err := range lines {
		if err != nil {
			return err
		}
		if line.Time.Before(p.after) {
			continue
		}
		if err := p.line(line); err != nil {
			return err
		}
	}
	return nil
}

// line writes a line to where the program had written it.
func (p *logPrinter) line(line logs.Line) error {
	if p.app.json {
		return p.app.print(logLine{line.Time, line.Stream.String(), string(line.Text), line.Partial})
	}
	to := p.app.stdout
	if line.Stream == logs.Stderr {
		to = p.app.stderr
	}
	end := "\n"
	if line.Partial {
		end = ""
	}
	_, err := to.WriteString(string(line.Text) + end)
	return err
}
