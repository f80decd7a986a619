// SPDX-License-Identifier: Apache-2.0

package cgroups

import "github.com/caisson-run/caisson/internal/parse"

// scan scans memory.stat.
func (s *MemoryStats) scan(text []byte, legacy bool) error {
	const total = "total_" // of v1: with descendants
	for len(text) > 0 {
		var key, value []byte
		key, value, text = parse.Pair(text)
		var into *Reading[uint64]
		switch {
		case !legacy:
			into = s.field(key)
		case len(key) > len(total) && string(key[:len(total)]) == total:
			into = s.fieldLegacy(key[len(total):])
		}
		if into == nil {
			continue
		}
		if err := scanUint(into, value); err != nil {
			return err
		}
	}
	return nil
}

// scanMemsw turns v1's limit of memory and swap together into one of swap. It
// comes after the limit of memory.
func (s *MemoryStats) scanMemsw(text []byte) error {
	if err := scanLimitLegacy(&s.SwapMax, text, mostPage); err != nil {
		return err
	}
	both, ok := s.SwapMax.Value()
	if !ok {
		return nil
	}
	// The kernel keeps memsw at or above the limit of memory; the two reads
	// may have met an update between them.
	if memory, ok := s.Max.Value(); ok {
		s.SwapMax = Bytes(both - min(both, memory))
	} else {
		s.SwapMax = Limit{}
	}
	return nil
}

// field is where a line of v2's memory.stat goes, or nil.
func (s *MemoryStats) field(key []byte) *Reading[uint64] {
	switch string(key) {
	case "anon":
		return &s.Anon
	case "file":
		return &s.File
	case "kernel":
		return &s.Kernel
	case "kernel_stack":
		return &s.KernelStack
	case "pagetables":
		return &s.PageTables
	case "percpu":
		return &s.PerCPU
	case "sock":
		return &s.Sock
	case "shmem":
		return &s.Shmem
	case "zswap":
		return &s.Zswap
	case "zswapped":
		return &s.Zswapped
	case "file_mapped":
		return &s.FileMapped
	case "file_dirty":
		return &s.FileDirty
	case "file_writeback":
		return &s.FileWriteback
	case "swapcached":
		return &s.SwapCached
	case "anon_thp":
		return &s.AnonTHP
	case "inactive_anon":
		return &s.InactiveAnon
	case "active_anon":
		return &s.ActiveAnon
	case "inactive_file":
		return &s.InactiveFile
	case "active_file":
		return &s.ActiveFile
	case "unevictable":
		return &s.Unevictable
	case "slab":
		return &s.Slab
	case "slab_reclaimable":
		return &s.SlabReclaimable
	case "slab_unreclaimable":
		return &s.SlabUnreclaimable
	case "workingset_refault_anon":
		return &s.RefaultAnon
	case "workingset_refault_file":
		return &s.RefaultFile
	case "workingset_activate_anon":
		return &s.ActivateAnon
	case "workingset_activate_file":
		return &s.ActivateFile
	case "workingset_restore_anon":
		return &s.RestoreAnon
	case "workingset_restore_file":
		return &s.RestoreFile
	case "workingset_nodereclaim":
		return &s.NodeReclaim
	case "pgfault":
		return &s.Faults
	case "pgmajfault":
		return &s.MajorFaults
	case "pgscan":
		return &s.Scanned
	case "pgsteal":
		return &s.Stolen
	case "pgrefill":
		return &s.Refilled
	case "pgactivate":
		return &s.Activated
	case "pgdeactivate":
		return &s.Deactivated
	case "pglazyfree":
		return &s.LazyFree
	case "pglazyfreed":
		return &s.LazyFreed
	case "thp_fault_alloc":
		return &s.THPFaults
	case "thp_collapse_alloc":
		return &s.THPCollapses
	}
	return nil
}

// fieldLegacy is where a line of v1's memory.stat goes, or nil.
func (s *MemoryStats) fieldLegacy(key []byte) *Reading[uint64] {
	switch string(key) {
	case "cache":
		return &s.File
	case "rss":
		return &s.Anon
	case "rss_huge":
		return &s.AnonTHP
	case "shmem":
		return &s.Shmem
	case "mapped_file":
		return &s.FileMapped
	case "dirty":
		return &s.FileDirty
	case "writeback":
		return &s.FileWriteback
	case "swap":
		return &s.Swap
	case "swapcached":
		return &s.SwapCached
	case "workingset_refault_anon":
		return &s.RefaultAnon
	case "workingset_refault_file":
		return &s.RefaultFile
	case "pgfault":
		return &s.Faults
	case "pgmajfault":
		return &s.MajorFaults
	case "inactive_anon":
		return &s.InactiveAnon
	case "active_anon":
		return &s.ActiveAnon
	case "inactive_file":
		return &s.InactiveFile
	case "active_file":
		return &s.ActiveFile
	case "unevictable":
		return &s.Unevictable
	}
	return nil
}
