// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package overlay mounts the root file system of a peer's container, as an engine
// does before it calls a runtime.
package overlay

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Private gives this process mounts of its own. It was started in a mount namespace
// of its own.
func Private() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }

// Mount mounts an overlay over the directory lower at bundle/rootfs, whose upper
// layer is in memory.
func Mount(lower, bundle string) error {
	mem := filepath.Join(bundle, "mem")
	if err := unix.Mount("tmpfs", mem, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	upper, work := filepath.Join(mem, "upper"), filepath.Join(mem, "work")
	err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755))
	if err == nil {
		options := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
		err = unix.Mount("overlay", filepath.Join(bundle, "rootfs"), "overlay", unix.MS_NODEV, options)
	}
	if err != nil {
		return errors.Join(err, unix.Unmount(mem, unix.MNT_DETACH))
	}
	return nil
}

// Unmount undoes [Mount].
func Unmount(bundle string) error {
	return errors.Join(unix.Unmount(filepath.Join(bundle, "rootfs"), unix.MNT_DETACH),
		unix.Unmount(filepath.Join(bundle, "mem"), unix.MNT_DETACH))
}
