// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"fmt"
	"os"

	"github.com/caisson-run/caisson/internal/supervise"
)

// Main is the whole program, and its exit status. Started by anybody but the
// library it says so on standard error, does nothing and returns 2.
//
// It has to be called before anything else that opens files or starts threads that
// matter: the process is the supervisor's alone.
func Main() int {
	listener, dir, err := supervise.Inherited()
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", err)
		return 2
	}
	if err := supervise.Serve(context.Background(), listener, dir); err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", err)
		return 1
	}
	return 0
}
