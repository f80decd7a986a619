// SPDX-License-Identifier: Apache-2.0

package elastic_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
)

// Watch a group until it is gone.
func ExampleEngine_Watch() {
	watch := func(ctx context.Context, e *elastic.Engine, cg *cgroups.Cgroup) error {
		w, err := e.Watch(elastic.WatchConfig{
			Cgroup: cg,
			Pressure: []elastic.Threshold{
				{Resource: cgroups.PressureMemory, Stall: 100 * time.Millisecond, Window: time.Second},
				{Resource: cgroups.PressureCPU, Stall: 300 * time.Millisecond, Window: time.Second},
			},
			Memory: true,
			PIDs:   true,
		})
		if err != nil {
			return err
		}
		defer w.Close()
		for {
			ev, err := w.Next(ctx)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			switch ev := ev.(type) {
			case elastic.Pressure:
				throttled, _ := ev.Throttled.Value()
				fmt.Printf("%s pressure: %t, %v in %v, %v of it by its own quota\n", ev.Resource, ev.Rising, ev.Stalled, ev.Span, throttled)
			case elastic.OOM:
				fmt.Printf("out of memory: %d killed\n", ev.Kills)
			case elastic.LimitHit:
				fmt.Printf("%s: %d times\n", ev.Resource, ev.Count)
			case elastic.Lost:
				fmt.Printf("%d events lost: too slow\n", ev.N)
			}
		}
	}
	_ = watch // it needs a group; see cgroups.Root.Create
}

// Be told when a process ends, without a thread or goroutine that waits for it.
func ExampleEngine_OnExit() {
	e, err := elastic.NewEngine()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()

	pidfd := -1
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer syscall.Close(pidfd)

	ended := make(chan struct{})
	cancel, err := e.OnExit(pidfd, func() { close(ended) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cancel()
	<-ended
	fmt.Println(cmd.Wait())
	// Output: <nil>
}

// A threshold is checked before anything is touched.
func ExampleThreshold_Validate() {
	t := elastic.Threshold{Resource: cgroups.PressureIO, Stall: 100 * time.Millisecond, Window: 100 * time.Millisecond}
	fmt.Println(t.Validate())
	// Output: trigger window "100ms": not within 500ms and 10s
}
