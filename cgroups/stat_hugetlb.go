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

// What each file of one size of huge pages holds.
const (
	hugeCurrent = iota
	hugeReserved
	hugeMax
	hugeFailures
	numHugeFiles
)

var (
	hugeNames       = [numHugeFiles]string{"current", "rsvd.current", "max", "events"}
	hugeNamesLegacy = [numHugeFiles]string{"usage_in_bytes", "rsvd.usage_in_bytes", "limit_in_bytes", "failcnt"}
)

// hugeFiles are the files of one size of huge pages. Those that the kernel does
// not have are nil.
type hugeFiles struct {
	pageSize uint64
	files    [numHugeFiles]*kernfs.File
}

func (h *hugeFiles) close() error {
	var errs []error
	for _, f := range h.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
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

// everyPageSize is every size that some architecture has.
func everyPageSize() (sizes []uint64) {
	for size := uint64(64 << 10); size <= 16<<30; size <<= 1 {
		sizes = append(sizes, size)
	}
	return sizes
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
	names := &hugeNames
	if !n.in.v2 {
		names = &hugeNamesLegacy
	}
	huge, opened := make([]hugeFiles, len(sizes)), 0
	for i, size := range sizes {
		huge[i].pageSize = size
		for j, name := range names {
			file, err := n.openOrAbsent("hugetlb." + hugePageName(size) + "." + name)
			if err != nil {
				for k := range huge {
					_ = huge[k].close()
				}
				return err
			}
			huge[i].files[j] = file
			if file != nil {
				opened++
			}
		}
	}
	h.huge = huge
	h.opened += opened
	return nil
}

// hugeTLB adds the hugetlb figures of n to s. The caller holds mu for reading;
// it is released for a moment when the files must be opened.
func (h *held) hugeTLB(s *Stats, n *node, p *pageSizes, buf *[]byte) error {
	if h.huge == nil {
		sizes, err := p.get()
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
		huge := &h.huge[i]
		var to *HugeTLBStats
		s.HugeTLB, to = next(s.HugeTLB)
		*to = HugeTLBStats{PageSize: huge.pageSize}
		for j, file := range huge.files {
			if file == nil {
				continue
			}
			text, err := read(file, buf)
			if err != nil {
				return n.failed(err)
			}
			if err := to.scan(j, n.in.v2, text); err != nil {
				return notUnderstood(file, text, err)
			}
		}
	}
	return nil
}

func (s *HugeTLBStats) scan(file int, v2 bool, text []byte) error {
	switch {
	case file == hugeCurrent:
		return scanUint(&s.Current, trim(text))
	case file == hugeReserved:
		return scanUint(&s.Reserved, trim(text))
	case file == hugeMax && v2:
		return scanLimit(&s.Max, text)
	case file == hugeMax:
		return scanLimitLegacy(&s.Max, text, s.PageSize)
	case v2:
		return scanKey(&s.Failures, text, "max")
	}
	return scanUint(&s.Failures, trim(text))
}
