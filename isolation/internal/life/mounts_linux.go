// SPDX-License-Identifier: Apache-2.0

package life

import (
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caisson-run/caisson/internal/launch"
)

// Mountable makes of bind mounts what whoever makes the container can mount here. What
// is about mounts below goes from that of a file, since crun 1.8 does not find the file
// then. It goes everywhere where the kernel has no mount_setattr(2), before Linux 5.12,
// on which runc and libcontainer fail: and then what is mounted below stays away, as
// for the native driver, instead of being there without those attributes.
func Mountable(list []specs.Mount) { mountable(list, launch.HasMountSetattr()) }

func mountable(list []specs.Mount, setattr bool) {
	for i := range list {
		m := &list[i]
		info, err := os.Stat(m.Source)
		if m.Type != "bind" || err != nil || info.IsDir() && setattr {
			continue
		}
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool {
			return slices.Contains([]string{"rro", "rnosuid", "rnodev", "rnoexec"}, o)
		})
		if at := slices.Index(m.Options, "rbind"); at >= 0 && !setattr {
			m.Options[at] = "bind"
		}
	}
}
