// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// contestant is a worker, or why there is none.
type contestant struct {
	name   string
	worker *worker
	absent error
	userns bool // takes part with a user namespace too
}

// course is one contestant in one form, and its times.
type course struct {
	*contestant
	withUser bool
	totals   []time.Duration
	parts    [4][]time.Duration
	took     time.Duration // last
	err      error
	failures int
}

func (c *course) name() string {
	if c.withUser {
		return c.contestant.name + " +user"
	}
	return c.contestant.name
}

var parts = [4]string{"create", "start", "wait", "destroy"}

// cycleTable compares create, start, wait and destroy.
func cycleTable(ctx context.Context, p *place, o options) (t *table, err error) {
	list, heap, err := p.contestants(ctx, o)
	defer func() { err = errors.Join(err, stop(list)) }()
	if err != nil {
		return nil, err
	}
	var courses []*course
	for _, c := range list {
		courses = append(courses, &course{contestant: c})
		if c.userns {
			courses = append(courses, &course{contestant: c, withUser: true})
		}
	}
	rounds, err := o.race(ctx, courses)
	if err != nil {
		return nil, err
	}
	return judge(list, courses, rounds, heap), nil
}

// stop ends the workers.
func stop(list []*contestant) error {
	var errs []error
	for _, c := range list {
		if c.worker != nil {
			errs = append(errs, c.worker.stop())
		}
	}
	return errors.Join(errs...)
}

// race warms the courses up and runs them in turns, and returns how often.
func (o options) race(ctx context.Context, courses []*course) (rounds int, err error) {
	for _, c := range courses {
		for range 3 { // warm
			if c.absent == nil {
				c.once(true)
			}
		}
	}
	order := turns(courses)
	for begin := time.Now(); rounds < o.rounds && time.Since(begin) < o.limit; rounds++ {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, c := range order {
			if err := ctx.Err(); err != nil {
				return rounds, err
			}
			c.once(false)
		}
	}
	return rounds, nil
}

// turns are the courses of one round: those that take a few milliseconds are
// run more often than those that take many.
func turns(courses []*course) []*course {
	var order []*course
	for _, c := range courses {
		if c.absent != nil {
			continue
		}
		order = append(order, c)
		if c.took < slow {
			order = append(order, c, c)
		}
	}
	return order
}

const slow = 12 * time.Millisecond

// once does one cycle, and lets the kernel take the namespaces and cgroups apart
// before the next.
func (c *course) once(warm bool) {
	times, err := c.worker.cycle(c.withUser)
	pause := 5 * time.Millisecond
	if err == nil {
		c.took = times[0]
	}
	if c.took > slow {
		pause = 30 * time.Millisecond
	}
	time.Sleep(pause)
	switch {
	case err != nil:
		c.err = err
		c.failures++
	case warm:
	default:
		c.totals = append(c.totals, times[0])
		for i, t := range times[1:] {
			c.parts[i] = append(c.parts[i], t)
		}
	}
}

// The rows that bars are about.
const (
	rowFloor        = "C floor"
	rowFloorBare    = "C floor, bare"
	rowFloorAll     = "C floor, all hierarchies"
	rowCaisson      = "caisson"
	rowCaissonHeap  = "caisson, large heap"
	rowCaissonInit  = "caisson, 30 ms of init"
	rowCaissonAll   = "caisson, all controllers"
	rowLibcontainer = "libcontainer"
	rowLibcHeap     = "libcontainer, large heap"
	rowLibcInit     = "libcontainer, 30 ms of init"
	rowCrun         = "crun"
	rowRuncDebian   = "runc, installed"
	rowRunc         = "runc 1.5.2"
)

// judge makes the table: rows in the order of list, those with a user namespace
// behind.
func judge(list []*contestant, courses []*course, rounds, heap int) *table {
	t := &table{
		Name: "cycle",
		Title: fmt.Sprintf("Create, start, wait and destroy /bin/true in 5 namespaces, with limits on cpu, memory and pids; %d rounds",
			rounds),
		Columns: []string{"median", "p95", "min", "create", "start", "wait", "destroy", "caisson x", "min x"},
		Notes: []string{
			"caisson x: how many times the median of caisson; min x: the same of the best ones. +user: with a user namespace.",
			"C floor: the child is given what caisson's is by default; bare: nothing but namespaces and /proc.",
			fmt.Sprintf("large heap: %d MiB resident in the embedder.", heap),
			"The floor and caisson use the hierarchies of cpu, memory and pids and the unified one, unless all are named; the peers always use all.",
		},
	}
	find := func(name string, withUser bool) *course {
		for _, c := range courses {
			if c.contestant.name == name && c.withUser == withUser {
				return c
			}
		}
		return &course{}
	}
	for _, withUser := range []bool{false, true} {
		own := find(rowCaisson, withUser).totals
		for _, l := range list {
			c := find(l.name, withUser)
			if c.contestant == nil {
				continue
			}
			r := t.add(c, c.name(), own)
			if r.Absent != "" || len(own) == 0 {
				continue
			}
			ratio := r.Values["caisson x"]
			over := func(what, floor string) {
				if totals := find(floor, withUser).totals; len(totals) > 0 {
					r.Bars = append(r.Bars, atMost(what, r.Values["median"]/float64(median(totals)), 1.15))
				}
			}
			switch l.name {
			case rowCaisson, rowCaissonHeap, rowCaissonInit:
				over("floor x", rowFloor)
			case rowCaissonAll:
				over("its floor x", rowFloorAll)
			case rowCrun, rowLibcontainer:
				r.Bars = append(r.Bars, atLeast("caisson x", ratio, 7))
			case rowRunc, rowRuncDebian:
				r.Bars = append(r.Bars, atLeast("caisson x", ratio, 14))
			}
		}
	}
	return t
}

// add makes a row of a course; own are the times to compare with.
func (t *table) add(c *course, name string, own []time.Duration) *row {
	r := &row{Name: name}
	t.Rows = append(t.Rows, r)
	if len(c.totals) == 0 {
		r.Absent = "failed"
		if c.absent != nil {
			r.Absent = c.absent.Error()
		} else if c.err != nil {
			r.Absent = "failed: " + c.err.Error()
		}
		return r
	}
	if c.failures > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("%s failed %d times: %v", name, c.failures, c.err))
	}
	r.Values = spread(c.totals)
	for i, times := range c.parts {
		if len(times) > 0 {
			r.Values[parts[i]] = float64(median(times))
		}
	}
	if len(own) > 0 {
		r.Values["caisson x"] = r.Values["median"] / float64(median(own))
		r.Values["min x"] = r.Values["min"] / float64(quantile(own, 0))
	}
	return r
}
