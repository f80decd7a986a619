// SPDX-License-Identifier: Apache-2.0

package crash

import "math/rand/v2"

// box is a sandbox as it should be. The zero box is none.
type box struct {
	exists, started, running, frozen, claimed, network bool
	n                                                  int // which limits
	shape                                              int // which limits of the network
	execs                                              int // further processes
}

// after is the box once the command is done.
func (b box) after(c command) box {
	switch c.Op {
	case "create", "create-net", "create-user":
		return box{exists: true, n: c.N, network: c.Op == "create-net"}
	case "start":
		b.started, b.running = true, true
	case "exec":
		b.execs++
	case "kill":
		b.running, b.execs = false, 0
	case "shape":
		b.shape = c.N
	case "update", "update-all":
		b.n = c.N
	case "claim":
		b.claimed = true
	case "unclaim":
		b.claimed = false
	case "freeze":
		b.frozen = true
	case "thaw":
		b.frozen = false
	case "destroy":
		return box{}
	}
	return b
}

// next is an operation that makes sense for the box.
func (b box) next(random *rand.Rand) string {
	switch {
	case !b.exists:
		return "create"
	case !b.running:
		return "start"
	}
	ops := []string{"update", "update", "claim", "unclaim", "freeze", "thaw", "destroy", "destroy"}
	if b.network {
		ops = append(ops, "shape", "shape")
	}
	if !b.frozen && b.execs < 3 {
		ops = append(ops, "exec", "exec")
	}
	op := ops[random.IntN(len(ops))]
	if op == "destroy" && b.frozen && random.IntN(2) == 0 {
		op = "thaw"
	}
	return op
}
