// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caisson-run/caisson/internal/bpf"
	"github.com/caisson-run/caisson/internal/devfilter"
)

// programs shows a group's BPF device programs as the file [devicesBPF]. It
// holds each program that it has shown, so that it can be attached again.
type programs struct {
	seen []*bpf.Program
}

func (p *programs) close() {
	for _, s := range p.seen {
		_ = s.Close()
	}
}

func (p *programs) read(n *node) (string, error) {
	found, err := bpf.Attached(bpf.CgroupDevice, n.dir.FD())
	if err != nil {
		return "", p.failed("read", n, "", err)
	}
	if len(found.Programs) == 0 {
		return wordAll, nil
	}
	var lines []string
	for _, f := range found.Programs {
		lines = append(lines, programLine(f))
		p.seen = append(p.seen, f)
	}
	return strings.Join(lines, "\n"), nil
}

func programLine(f *bpf.Program) string {
	return fmt.Sprintf("%s%d %s", programPrefix, f.ID, f.Name)
}

func (p *programs) write(n *node, data string) error {
	var to []*bpf.Program
	switch {
	case data == wordAll:
	case strings.HasPrefix(data, programPrefix):
		for line := range strings.SplitSeq(data, "\n") {
			i := slices.IndexFunc(p.seen, func(f *bpf.Program) bool { return programLine(f) == line })
			if i < 0 {
				// Freed with its last descriptor or group.
				return p.failed("write", n, data, errors.New("the program is not there any more"))
			}
			to = append(to, p.seen[i])
		}
	default:
		d, err := parseDevices(data)
		if err != nil {
			return err
		}
		f, err := devfilter.Load(d.filter())
		if err != nil {
			return p.failed("write", n, data, err)
		}
		defer f.Close()
		to = append(to, f)
	}
	return p.failed("write", n, data, bpf.Replace(bpf.CgroupDevice, n.dir.FD(), to...))
}

func (p *programs) failed(op string, n *node, data string, err error) error {
	if err == nil {
		return nil
	}
	return &FileError{Op: op, Path: n.dir.Join(devicesBPF), Data: data, Err: err}
}
