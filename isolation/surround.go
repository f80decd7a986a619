// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/caisson-run/caisson/internal/sys"
	"github.com/caisson-run/caisson/netns"
)

// Surroundings are what a host makes around a container, whoever makes the container.
type Surroundings struct {
	// Network is what Spec.Network asks for: made before Create, and found before
	// Recover. The container has to join it, by [Container.NetworkPath] or the handle
	// of [Container.Network], and to have [Container.NetworkFiles].
	Network bool

	// Logs is what Spec.Logs asks for: the files of Start, which the driver has to
	// have, lead there where the caller gives none.
	Logs bool
}

// A Surrounded driver leaves some of that to the host, which takes it away after
// Destroy. What a driver has neither by itself nor by the host it refuses.
type Surrounded interface {
	Surroundings() Surroundings
}

// around are the isolators of what the host makes around the driver's containers.
func (d *nativeDriver) around(driver Driver) (list []Isolator) {
	s, ok := driver.(Surrounded)
	if !ok {
		return nil
	}
	parts := s.Surroundings()
	if parts.Network {
		list = append(list, d.network)
	}
	if parts.Logs {
		list = append(list, d.logs)
	}
	return list
}

// build has the container made, within its surroundings: all or nothing.
func (s *Sandbox) build(ctx context.Context) error {
	for i, iso := range s.around {
		if err := iso.Prepare(ctx, s.c); err != nil {
			err = fmt.Errorf("%s: %w", iso.Name(), err)
			return errors.Join(err, s.clear(context.WithoutCancel(ctx), s.around[:i+1]))
		}
	}
	if err := s.driver.Create(ctx, s.c); err != nil {
		return errors.Join(err, s.clear(context.WithoutCancel(ctx), s.around))
	}
	return nil
}

// clear takes surroundings away, in which nothing runs any more.
func (s *Sandbox) clear(ctx context.Context, parts []Isolator) error {
	var errs []error
	for _, iso := range slices.Backward(parts) {
		if err := iso.Cleanup(ctx, s.c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", iso.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// raze destroys the container, and then its surroundings.
func (s *Sandbox) raze(ctx context.Context) error {
	if err := s.driver.Destroy(ctx, s.c); err != nil {
		return err
	}
	return s.clear(ctx, s.around)
}

// discover finds the surroundings and then the container of an earlier process.
func (s *Sandbox) discover(ctx context.Context) (err error) {
	for _, iso := range s.around {
		if r, ok := iso.(RecoverIsolator); ok && err == nil {
			if err = r.Recover(ctx, s.c); err != nil {
				err = fmt.Errorf("%s: %w", iso.Name(), err)
			}
		}
	}
	if d, ok := s.driver.(Recoverer); ok && err == nil {
		err = d.Recover(ctx, s.c)
	} else if err == nil {
		_, err = s.driver.Check(ctx, s.c)
	}
	if err != nil {
		err = errors.Join(err, s.leaveAround())
	}
	return err
}

// leaveAround frees what this process holds of the surroundings.
func (s *Sandbox) leaveAround() error {
	var errs []error
	for _, iso := range slices.Backward(s.around) {
		if r, ok := iso.(ReleaseIsolator); ok {
			errs = append(errs, r.Release(s.c))
		}
	}
	return errors.Join(errs...)
}

// run has the driver start the process, with the ends of the log where the caller
// gives none.
func (s *Sandbox) run(ctx context.Context, d Starter, files []*os.File) error {
	l := &Launch{Files: files}
	if slices.Contains(s.around, Isolator(s.host.native.logs)) {
		if err := s.host.native.logs.Launch(s.c, l); err != nil {
			return fmt.Errorf("logs: %w", err)
		}
	}
	standard(l.Files)
	if err := d.Start(ctx, s.c, l.Files); err != nil {
		return err
	}
	if w := s.c.written; w != nil {
		_ = w.closeFiles() // the process has its own
	}
	return nil
}

// standard has the first three of a process's files be as programs take for granted,
// whichever driver starts it: they block, and those that are pipes can be opened again.
func standard(files []*os.File) {
	for _, f := range files[:min(3, len(files))] {
		if f != nil {
			sys.LetReopen(int(f.Fd())) // Fd makes it blocking
		}
	}
}

// networker is who changes and measures the sandbox's network: the driver, or the host
// that has made it around the container.
func (s *Sandbox) networker() (Networker, bool) {
	if slices.Contains(s.around, Isolator(s.host.native.network)) {
		return surroundingNetwork{s.host.native}, true
	}
	d, ok := s.driver.(Networker)
	return d, ok
}

// NetworkPath is the file of the network namespace that the container is to join, for
// programs that are told so; empty if it is to stay in this process's.
func (c *Container) NetworkPath() (string, error) {
	switch {
	case c.Network == nil:
		return "", nil
	case c.Spec.Network.Mode == netns.ModeHost && c.elsewhere:
		return "", &UnsupportedError{Feature: "network.mode host", Reason: "the machine's network is not this process's, see Config.NetworkNamespace; join it by its path"}
	}
	return c.Network.Path(), nil
}

// NetworkFiles are what has to be mounted in the container, where it has a mount
// namespace, for it to find names as Spec.Network.DNS says; none if that says nothing.
func (c *Container) NetworkFiles() ([]Mount, error) { return networkFiles(c.resolving) }
