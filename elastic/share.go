// SPDX-License-Identifier: Apache-2.0

package elastic

import "slices"

// shares divides amount among demands, max-min fairly: nobody gets more than it
// demands while somebody else gets less, and who demands little leaves the rest
// to the others. What nobody demands is divided equally, so that the shares add
// up to amount.
func shares(amount float64, demands []float64) []float64 {
	if len(demands) == 0 {
		return nil
	}
	order := make([]int, len(demands))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case demands[a] < demands[b]:
			return -1
		case demands[a] > demands[b]:
			return 1
		}
		return 0
	})
	got := make([]float64, len(demands))
	left := amount
	for n, i := range order {
		got[i] = min(demands[i], left/float64(len(order)-n))
		left -= got[i]
	}
	if left > 0 {
		for i := range got {
			got[i] += left / float64(len(got))
		}
	}
	return got
}
