// SPDX-License-Identifier: Apache-2.0

package isolationtest

import (
	"testing"

	"github.com/caisson-run/caisson/internal/testutil"
	"github.com/caisson-run/caisson/isolation"
)

// Driver holds the driver that open returns to the contract of
// [isolation.Driver] and of each optional interface that it implements. A nil
// driver is the native one.
//
// open is called for each host that the suite opens; what it opens itself it
// closes by t.Cleanup. The test binary has to call [Workload], since it is also
// what runs in the sandboxes.
func Driver(t *testing.T, open func(t testing.TB, at Place) isolation.Driver, opt DriverOptions) {
	t.Helper()
	for _, p := range parts() {
		t.Run(p.name, func(t *testing.T) { p.on(t, open, opt) })
	}
}

// part is one promise of the contract.
type part struct {
	name  string
	needs []need
	run   func(s *stand)
}

// on runs the part.
func (p part) on(t testing.TB, open func(testing.TB, Place) isolation.Driver, opt DriverOptions) {
	t.Helper()
	testutil.Require(t, testutil.Linux, testutil.Root)
	testutil.CheckLeaks(t)
	s := newStand(t, open, opt)
	for _, n := range p.needs {
		if !n.has(s.driver) {
			testutil.Skip(t, noInterface, "the driver is no isolation.%s", n.name)
		}
	}
	p.run(s)
}

// noInterface is the class of a skip for what the driver does not offer.
const noInterface testutil.Requirement = "driver"

// need is an optional interface.
type need struct {
	name string
	has  func(isolation.Driver) bool
}

// is makes a need of T. The native driver, nil here, has all of them.
func is[T any](name string) need {
	return need{name, func(d isolation.Driver) bool {
		_, ok := d.(T)
		return ok || d == nil
	}}
}

var (
	starter  = is[isolation.Starter]("Starter")
	waiter   = is[isolation.Waiter]("Waiter")
	signaler = is[isolation.Signaler]("Signaler")
	freezer  = is[isolation.Freezer]("Freezer")
	updater  = is[isolation.Updater]("Updater")
	statter  = is[isolation.Statter]("Statter")
	watcher  = is[isolation.Watcher]("Watcher")
	execer   = is[isolation.Execer]("Execer")
)

func parts() []part {
	return []part{
		{"create", nil, create},
		{"create-names", nil, createNames},
		{"create-refused", nil, createRefused},
		{"create-no-program", nil, createNoProgram},
		{"create-cancelled", nil, createCancelled},
		{"start", []need{starter, waiter}, start},
		{"start-cancelled", []need{starter}, startCancelled},
		{"exit-code", nil, exitCode},
		{"exit-signal", nil, exitSignal},
		{"wait", []need{starter, waiter}, wait},
		{"signal", []need{signaler}, signals},
		{"signal-handled", []need{starter, signaler, waiter}, signalHandled},
		{"exec", []need{execer}, execs},
		{"destroy-created", nil, destroyCreated},
		{"destroy-exited", nil, destroyExited},
		{"destroy-running", nil, destroying("wait", 1)},
		{"destroy-deaf", nil, destroying("deaf", 1)},
		{"destroy-orphans", nil, destroying("orphans", 2)},
		{"destroy-forking", nil, destroying("rabbits", 2)},
		{"destroy-stopped", nil, destroyStopped},
		{"destroy-frozen", []need{freezer}, destroyFrozen},
		{"destroy-twice-at-once", nil, destroyTwice},
		{"destroy-cancelled", nil, destroyCancelled},
		{"destroy-half-made", nil, destroyHalfMade},
		{"check-vanished", nil, checkVanished},
		{"freeze", []need{freezer}, freeze},
		{"update", []need{updater}, update},
		{"update-refused", []need{updater}, updateRefused},
		{"stat", []need{statter}, stat},
		{"watch", []need{watcher}, watch},
		{"watch-exit", []need{watcher}, watchExit},
		{"recover-running", nil, recoverRunning},
		{"recover-exited", nil, recoverExited},
		{"recover-limits", []need{updater}, recoverLimits},
		{"recover-vanished", nil, recoverVanished},
		{"logs", nil, logged},
		{"network", nil, networked},
		{"classes", nil, classes},
		{"beside", nil, beside},
	}
}
