// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/caisson-run/caisson/isolation"
)

// nameOf gives an event a name, for scripts.
func nameOf(ev isolation.Event) string {
	switch ev.(type) {
	case isolation.Pressure:
		return "pressure"
	case isolation.OOM:
		return "oom"
	case isolation.LimitHit:
		return "limit"
	case isolation.Drift:
		return "drift"
	case isolation.Lost:
		return "lost"
	case isolation.Exited:
		return "exit"
	case isolation.Failed:
		return "failed"
	case isolation.Frozen:
		return "frozen"
	case isolation.Gone:
		return "gone"
	}
	return "other"
}

// eventJSON is an event's fields with its name in front.
func eventJSON(id string, ev isolation.Event) ([]byte, error) {
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
	}{nameOf(ev), id})
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
	_, err := fmt.Fprintf(a.stdout, "%s  %-8s  %s\n", ev.When().Format("15:04:05.000"), nameOf(ev), ev)
	return err
}
