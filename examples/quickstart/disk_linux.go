// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/caisson-run/caisson/cgroups"
)

// diskOf is the disk that holds dir, as the kernel counts disks: not the
// partition.
func diskOf(dir string) (cgroups.Device, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return cgroups.Device{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	// makedev(3), backwards.
	dev := cgroups.Device{Major: uint32(st.Dev>>8&0xfff | st.Dev>>32&^0xfff), Minor: uint32(st.Dev&0xff | st.Dev>>12&^0xff)}
	sys, err := filepath.EvalSymlinks("/sys/dev/block/" + dev.String())
	if err != nil {
		return cgroups.Device{}, fmt.Errorf("%s is on no disk of its own (device %s)", dir, dev)
	}
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		sys = filepath.Dir(sys)
	}
	text, err := os.ReadFile(filepath.Join(sys, "dev"))
	if err != nil {
		return cgroups.Device{}, err
	}
	err = dev.UnmarshalText([]byte(strings.TrimSpace(string(text))))
	return dev, err
}

// scribble writes to a file without a name for as long as it can. It goes
// around the page cache, because v1 does not know whose cached writes are.
func scribble(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		return err
	}
	// Direct writes want aligned memory, which mmap gives.
	block, err := syscall.Mmap(-1, 0, 256<<10, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	for i := int64(0); ; i++ {
		if _, err := f.WriteAt(block, i%16*int64(len(block))); err != nil {
			return errors.Join(err, syscall.Munmap(block))
		}
	}
}
