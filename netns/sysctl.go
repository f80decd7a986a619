// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"maps"
	"slices"
	"strings"
)

// sysctls allows what a network namespace has of its own: nothing outside of
// net, and no way up.
func (v *validator) sysctls(all map[string]string) {
	v.most("sysctls", len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		value := all[key]
		elements := strings.Split(sysctlPath(key), "/")
		good := len(elements) > 2 && elements[0] == "net"
		for _, e := range elements {
			good = good && e != "" && e != "." && e != ".." && !strings.ContainsFunc(e, func(r rune) bool {
				return r <= ' ' || r >= 0x7f
			})
		}
		if !good || len(key) > 200 {
			v.bad("sysctl", key, "not a name below net, like net.ipv4.ip_forward")
		}
		if len(value) > 1024 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }) {
			v.bad("sysctl "+clip(key), value, "not a line of printable ASCII")
		}
	}
}

// sysctlPath is the path below /proc/sys. As in sysctl(8), the first separator
// decides: in a name with dots a slash is a dot of an interface's name.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		return strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	return key
}

// ofInterface is the interface that a parameter belongs to: net.ipv4.conf.eth0.
func ofInterface(key string) (name string, ok bool) {
	e := strings.Split(sysctlPath(key), "/")
	if len(e) < 5 || e[2] != "conf" && e[2] != "neigh" || e[3] == "all" || e[3] == "default" {
		return "", false
	}
	return e[3], true
}
