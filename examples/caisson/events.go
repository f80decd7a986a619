// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caisson-run/caisson/isolation"
)

// describe gives an event a name, for scripts, and a sentence, for people.
func describe(ev isolation.Event) (name, sentence string) {
	switch ev := ev.(type) {
	case isolation.Pressure:
		return "pressure", pressureSentence(ev)
	case isolation.OOM:
		return "oom", fmt.Sprintf("out of memory: %d processes killed", ev.Kills)
	case isolation.LimitHit:
		return "limit", fmt.Sprintf("%s held something back %d times", ev.Resource, ev.Count)
	case isolation.Drift:
		return "drift", driftSentence(ev)
	case isolation.Lost:
		return "lost", fmt.Sprintf("%d events were dropped, because nobody read them in time", ev.N)
	case isolation.Exited:
		return "exit", "the program ended: " + ev.Status.String()
	case isolation.Failed:
		return "failed", fmt.Sprintf("%s cannot be watched any more: %v", ev.What, ev.Err)
	case isolation.Frozen:
		return "frozen", map[bool]string{true: "all processes stand still", false: "the processes go on"}[ev.Frozen]
	case isolation.Gone:
		return "gone", "the sandbox was destroyed"
	}
	return "other", fmt.Sprintf("%+v", ev)
}

func driftSentence(d isolation.Drift) string {
	if d.Over {
		return d.Knob + " is what was set again"
	}
	s := "somebody else changed " + d.Drift.String()
	if d.Did != "" {
		s += "; " + d.Did
	}
	if d.Err != "" {
		s += ": " + d.Err
	}
	return s
}

func pressureSentence(p isolation.Pressure) string {
	kind := "some"
	if p.Full {
		kind = "full"
	}
	s := fmt.Sprintf("%s %s stalled %s of %s (threshold %s in %s, seen by %s within %s)", p.Resource, kind,
		p.Stalled.Round(time.Millisecond), p.Span.Round(time.Millisecond), p.Stall, p.Window, p.Source, p.Latency)
	if own, ok := p.Throttled.Value(); ok && own > 0 {
		s += fmt.Sprintf(", throttled %s by its own quota", own.Round(time.Millisecond))
	}
	if !p.Rising {
		return "over: " + s
	}
	return s
}

// eventJSON is an event's fields with its name in front.
func eventJSON(id string, ev isolation.Event) ([]byte, error) {
	name, _ := describe(ev)
	var fields any = ev
	if ev, ok := ev.(isolation.Failed); ok {
		fields = struct {
			isolation.Failed
			Error string `json:"error"`
		}{ev, fmt.Sprint(ev.Err)}
	}
	head, err := json.Marshal(struct {
		Event string `json:"event"`
		ID    string `json:"id"`
	}{name, id})
	if err != nil {
		return nil, err
	}
	tail, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(tail, []byte("{}")) {
		return head, nil
	}
	return append(append(head[:len(head)-1], ','), tail[1:]...), nil
}

// printEvent writes one line.
func (a *app) printEvent(id string, ev isolation.Event) error {
	if a.json {
		line, err := eventJSON(id, ev)
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(append(line, '\n'))
		return err
	}
	name, sentence := describe(ev)
	_, err := fmt.Fprintf(a.stdout, "%s  %-8s  %s\n", ev.When().Format("15:04:05.000"), name, sentence)
	return err
}
