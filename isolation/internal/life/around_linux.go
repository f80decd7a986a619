// SPDX-License-Identifier: Apache-2.0

package life

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/isolation"
)

// Surroundings has the host make the network and the log of containers.
func (l *Lives) Surroundings() isolation.Surroundings {
	return isolation.Surroundings{Network: true, Logs: true}
}

// Around are the fields of a spec that the host sees to.
func Around() []string { return []string{"logs", "network.dns"} }

// MountNames adds to spec what has to be mounted for the names of the network.
func MountNames(c *isolation.Container, spec *specs.Spec) error {
	files, err := c.NetworkFiles()
	for _, f := range files {
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: f.Target, Type: "bind", Source: f.Source, Options: []string{"bind", "rprivate"},
		})
	}
	return err
}
