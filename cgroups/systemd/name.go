// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"strings"

	"github.com/caisson-run/caisson/cgroups"
)

// maxName is systemd's UNIT_NAME_MAX with its final zero byte taken off.
const maxName = 255

// checkName refuses what is not a name of a unit with one of the suffixes.
func checkName(field, name string, suffixes ...string) error {
	refuse := func(reason string) error {
		shown := name
		if len(shown) > maxName {
			shown = shown[:maxName]
		}
		return &cgroups.InvalidError{Field: field, Value: shown, Reason: reason}
	}
	if len(name) > maxName {
		return refuse("longer than 255 bytes")
	}
	for _, suffix := range suffixes {
		prefix, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		if prefix == "" || strings.HasPrefix(prefix, "@") || strings.HasSuffix(prefix, "@") {
			return refuse("nothing before " + suffix + " that names one unit")
		}
		for _, c := range []byte(prefix) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(`:-_.\@`, c) >= 0:
			default:
				return refuse("has a byte other than letters, digits and :-_.\\@")
			}
		}
		// A dash in a slice's name says below which slice it is.
		if suffix == ".slice" && prefix != "-" &&
			(strings.HasPrefix(prefix, "-") || strings.HasSuffix(prefix, "-") || strings.Contains(prefix, "--")) {
			return refuse("a slice's name has single dashes between its parts")
		}
		return nil
	}
	return refuse("does not end in " + strings.Join(suffixes, " or "))
}
