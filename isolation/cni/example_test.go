// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/caisson-run/caisson/isolation"
	"github.com/caisson-run/caisson/isolation/cni"
)

// A host whose sandboxes are connected by the administrator's plugins, each with the
// port that its labels ask for.
func ExampleNew() {
	ctx := context.Background()
	list, err := os.ReadFile("/etc/cni/net.d/10-lan.conflist")
	if err != nil {
		log.Fatal(err)
	}
	network, err := cni.New(cni.Config{
		Lists: [][]byte{list}, State: "/run/agent/cni", Scope: "agent",
		Select: func(s isolation.Spec) (cni.Arguments, bool) {
			web := cni.Arguments{Capabilities: map[string]any{"portMappings": []map[string]any{
				{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
			}}}
			return web, s.Labels["app"] == "web"
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	host, err := isolation.Open(ctx, isolation.Config{Root: "/run/agent", Parent: "agent", Isolators: []isolation.Isolator{network}})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	web, err := host.Create(ctx, isolation.Spec{ID: "web-1", Labels: map[string]string{"app": "web"},
		Process: isolation.Process{Args: []string{"/srv/web"}}})
	if err != nil {
		log.Fatal(err)
	}
	results, err := network.Results(web.ID())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(results[0].IPs[0].Address)
}
