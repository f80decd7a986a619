// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what comes from outside.
const (
	maxID         = 64 // a hostname's length
	maxLabels     = 64
	maxLabelKey   = 128
	maxLabelValue = 4096
)

// ValidateID reports whether id may name a sandbox: 1 to 64 ASCII letters and
// digits, with single '.', '_' or '-' between them. So an id is always one
// path element, a host name, and never an option of a command.
func ValidateID(id string) error {
	bad := func(reason string) error { return &InvalidError{Field: "id", Value: clip(id), Reason: reason} }
	switch {
	case id == "":
		return bad("empty")
	case len(id) > maxID:
		return bad("longer than 64 bytes")
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case (c == '.' || c == '_' || c == '-') && i > 0 && i < len(id)-1 && !strings.ContainsRune("._-", rune(id[i-1])):
		default:
			return bad("only ASCII letters and digits, with single '.', '_' or '-' between them")
		}
	}
	return nil
}

// validateLabels bounds labels: they are data, kept and shown, and never reach
// a file name, a kernel file or a switch.
func validateLabels(labels map[string]string) []error {
	var errs []error
	bad := func(field, value, reason string) {
		errs = append(errs, &InvalidError{Field: field, Value: clip(value), Reason: reason})
	}
	if len(labels) > maxLabels {
		bad("labels", "", "more than 64")
	}
	for k, v := range labels {
		if reason := badLabelKey(k); reason != "" {
			bad("label key", k, reason)
		}
		if reason := badLabelValue(v); reason != "" {
			bad("label "+clip(k), v, reason)
		}
	}
	return errs
}

func badLabelKey(k string) (reason string) {
	switch {
	case k == "" || len(k) > maxLabelKey:
		return "not 1 to 128 bytes"
	case !utf8.ValidString(k) || strings.ContainsFunc(k, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' || r == '=' }):
		return "only printable characters other than '=' and space"
	}
	return ""
}

func badLabelValue(v string) (reason string) {
	switch {
	case len(v) > maxLabelValue:
		return "longer than 4096 bytes"
	case !printable(v):
		return "only printable characters"
	}
	return ""
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// clip keeps hostile values from flooding messages.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
