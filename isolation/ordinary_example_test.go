// SPDX-License-Identifier: Apache-2.0

package isolation_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/caisson-run/caisson/isolation"
)

// An ordinary user without a cgroup of his own is told what his sandboxes go
// without.
func ExampleHost_Lacks() {
	ctx := context.Background()
	host, err := isolation.Open(ctx, isolation.Config{
		Root:      filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "caisson"),
		Ungrouped: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close()
	for _, lack := range host.Lacks() {
		fmt.Println(lack)
	}
	box, err := host.Create(ctx, isolation.Spec{ID: "hello", Process: isolation.Process{Args: []string{"id", "-u"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(box.Start(ctx, nil, os.Stdout, os.Stderr)) // the program prints 0
}
