// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Selector chooses sandboxes by labels: each of its requirements has to be met.
// The nil Selector chooses all. It is made by [ParseSelector], or by [Select]
// from labels.
type Selector []Requirement

// Requirement is one condition on one label.
type Requirement struct {
	Key    string
	Op     SelectorOp
	Values []string // at least one with [OpIn] and [OpNotIn], none with the others
}

// SelectorOp is how a [Requirement] looks at a label.
type SelectorOp uint8

// The ways in which a requirement looks at a label.
const (
	OpIn     SelectorOp = iota // there, with one of the values
	OpNotIn                    // not there, or with another value
	OpExists                   // there, with any value
	OpAbsent                   // not there
)

// Select is the selector of what has all these labels.
func Select(labels map[string]string) Selector {
	var sel Selector
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		sel = append(sel, Requirement{Key: k, Values: []string{labels[k]}})
	}
	return sel
}

// ParseSelector reads a selector as Kubernetes writes them: requirements with
// commas between them, each of which is one of
//
//	key = value     or  key == value
//	key != value
//	key in (value, value)
//	key notin (value, value)
//	key
//	!key
//
// As there, "!=" and "notin" also choose what does not have the key. A key is one
// that a label can have, without any of "=!,()"; a value has none of ",()" and
// no space, and may be empty. The empty text is the nil Selector.
func ParseSelector(text string) (Selector, error) {
	var sel Selector
	p := selectorParser{rest: text}
	p.space()
	if p.rest == "" {
		return nil, nil
	}
	for {
		r, reason := p.requirement()
		if reason == "" {
			p.space()
			if p.rest == "" {
				return append(sel, r), nil
			}
			if !p.take(",") {
				reason = "no comma in front of " + strconv.Quote(clip(p.rest))
			}
		}
		if reason != "" {
			return nil, &InvalidError{Field: "selector", Value: clip(text), Reason: reason}
		}
		sel = append(sel, r)
	}
}

// selectorParser takes a text apart from its beginning.
type selectorParser struct{ rest string }

func (p *selectorParser) space() { p.rest = strings.TrimLeft(p.rest, " ") }

func (p *selectorParser) take(token string) (there bool) {
	p.rest, there = strings.CutPrefix(p.rest, token)
	return there
}

// word takes all up to one of the characters.
func (p *selectorParser) word(stop string) string {
	i := strings.IndexAny(p.rest, stop)
	if i < 0 {
		i = len(p.rest)
	}
	word := p.rest[:i]
	p.rest = p.rest[i:]
	return word
}

func (p *selectorParser) requirement() (r Requirement, reason string) {
	p.space()
	absent := p.take("!")
	p.space()
	r.Key = p.word("=!,() ")
	if badLabelKey(r.Key) != "" {
		return r, "key " + strconv.Quote(clip(r.Key)) + " is none that a label can have"
	}
	p.space()
	var list bool
	switch {
	case absent:
		r.Op = OpAbsent
		return r, ""
	case p.rest == "" || p.rest[0] == ',':
		r.Op = OpExists
		return r, ""
	case p.take("=="), p.take("="):
	case p.take("!="):
		r.Op = OpNotIn
	default:
		switch op := p.word("=!,() "); op {
		case "in":
		case "notin":
			r.Op = OpNotIn
		default:
			return r, `not "=", "!=", "in" or "notin" after key ` + strconv.Quote(clip(r.Key))
		}
		list = true
		p.space()
		if !p.take("(") {
			return r, `no "(" before the values of key ` + strconv.Quote(clip(r.Key))
		}
	}
	for {
		p.space()
		value := p.word(",() ")
		p.space()
		if badLabelValue(value) != "" {
			return r, "value " + strconv.Quote(clip(value)) + " is none that a label can have"
		}
		r.Values = append(r.Values, value)
		switch {
		case !list, p.take(")"):
			return r, ""
		case !p.take(","):
			return r, `no ")" after the values of key ` + strconv.Quote(clip(r.Key))
		}
	}
}

// Matches reports whether labels meet every requirement of the selector.
func (sel Selector) Matches(labels map[string]string) bool {
	return !slices.ContainsFunc(sel, func(r Requirement) bool { return !r.Matches(labels) })
}

// Matches reports whether labels meet the requirement.
func (r Requirement) Matches(labels map[string]string) bool {
	value, there := labels[r.Key]
	switch r.Op {
	case OpIn:
		return there && slices.Contains(r.Values, value)
	case OpNotIn:
		return !there || !slices.Contains(r.Values, value)
	case OpExists:
		return there
	case OpAbsent:
		return !there
	}
	return false
}

// String is what [ParseSelector] reads.
func (sel Selector) String() string {
	parts := make([]string, len(sel))
	for i, r := range sel {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// String is `app=web`, `app!=web`, `app in (a,b)`, `app notin (a,b)`, `app` or
// `!app`.
func (r Requirement) String() string {
	one := len(r.Values) == 1
	switch r.Op {
	case OpIn:
		if one && strings.HasPrefix(r.Values[0], "=") {
			return r.Key + "==" + r.Values[0]
		}
		if one {
			return r.Key + "=" + r.Values[0]
		}
		return r.Key + " in (" + strings.Join(r.Values, ",") + ")"
	case OpNotIn:
		if one {
			return r.Key + "!=" + r.Values[0]
		}
		return r.Key + " notin (" + strings.Join(r.Values, ",") + ")"
	case OpExists:
		return r.Key
	case OpAbsent:
		return "!" + r.Key
	}
	return r.Key + " op(" + strconv.Itoa(int(r.Op)) + ")"
}
