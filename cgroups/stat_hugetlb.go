// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caisson-run/caisson/internal/kernfs"
)

// hugeFiles are the files of one size of huge pages. Those that the kernel does
// not have are nil.
type hugeFiles struct {
	pageSize                         uint64
	current, reserved, max, failures *kernfs.File
}

func (h *hugeFiles) close() error {
	return errors.Join(h.current.Close(), h.reserved.Close(), h.max.Close(), h.failures.Close())
}

// pageSizes are the sizes of huge pages that this machine has.
type pageSizes struct {
	once sync.Once
	list []uint64
	err  error
}

func (p *pageSizes) get() ([]uint64, error) {
	p.once.Do(func() {
		entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			p.err = err
			return
		}
		for _, e := range entries {
			kb, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
			if n, err := strconv.ParseUint(kb, 10, 40); ok && err == nil {
				p.list = append(p.list, n<<10)
			}
		}
		slices.Sort(p.list)
	})
	return p.list, p.err
}

// hugePageName is a page size as the hugetlb files have it in their names:
// "64KB", "2MB", "1GB".
func hugePageName(size uint64) string {
	switch {
	case size >= 1<<30:
		return strconv.FormatUint(size>>30, 10) + "GB"
	case size >= 1<<20:
		return strconv.FormatUint(size>>20, 10) + "MB"
	}
	return strconv.FormatUint(size>>10, 10) + "KB"
}

// lookForHuge opens the hugetlb files of n.
func (h *held) lookForHuge(n *node, sizes []uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.huge != nil {
		return nil
	}
	names := [4]string{"current", "rsvd.current", "max", "events"}
	if !n.in.v2 {
		names = [4]string{"usage_in_bytes", "rsvd.usage_in_bytes", "limit_in_bytes", "failcnt"}
	}
	huge := make([]hugeFiles, len(sizes))
	for i, size := range sizes {
		f := &huge[i]
		f.pageSize = size
		for j, into := range []**kernfs.File{&f.current, &f.reserved, &f.max, &f.failures} {
			file, err := n.openOrAbsent("hugetlb." + hugePageName(size) + "." + names[j])
			if err != nil {
				for k := range huge {
					_ = huge[k].close()
				}
				return err
			}
			*into = file
		}
	}
	h.huge = huge
	return nil
}

func (c *Cgroup) scanHugeTLB(s *Stats, n *node, buf *[]byte) error {
	h := &c.stats
	if h.huge == nil {
		sizes, err := c.root.pageSizes.get()
		if err != nil || len(sizes) == 0 {
			return err
		}
		h.mu.RUnlock()
		err = h.lookForHuge(n, sizes)
		h.mu.RLock()
		if err != nil {
			return err
		}
	}
	if h.closed {
		return &FileError{Op: "read", Path: n.dir.Path(), Err: os.ErrClosed}
	}
	for i := range h.huge {
		f := &h.huge[i]
		var to *HugeTLBStats
		s.HugeTLB, to = next(s.HugeTLB)
		*to = HugeTLBStats{PageSize: f.pageSize}
		if err := f.scan(to, n, buf); err != nil {
			return err
		}
	}
	return nil
}

func (f *hugeFiles) scan(to *HugeTLBStats, n *node, buf *[]byte) error {
	for i, file := range [...]*kernfs.File{f.current, f.reserved, f.max, f.failures} {
		if file == nil {
			continue
		}
		text, err := read(file, buf)
		if err != nil {
			return n.failed(err)
		}
		switch {
		case i == 0:
			err = scanUint(&to.Current, trim(text))
		case i == 1:
			err = scanUint(&to.Reserved, trim(text))
		case i == 2:
			err = scanLimitLegacy(&to.Max, text)
		case n.in.v2:
			err = scanKey(&to.Failures, text, "max")
		default:
			err = scanUint(&to.Failures, trim(text))
		}
		if err != nil {
			return notUnderstood(file, text, err)
		}
	}
	return nil
}
