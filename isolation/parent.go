// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/caisson-run/caisson/cgroups"
	"github.com/caisson-run/caisson/elastic"
	"github.com/caisson-run/caisson/internal/checkpoint"
)

// parent is the group below which the sandboxes are, with a group in it for each
// class that is kept together, and the record of which groups on the way there were
// made by hosts of this state directory: those, and no others, they may remove.
type parent struct {
	root    *cgroups.Root
	group   *cgroups.Cgroup
	name    string // the group's path
	scope   string // of the state directory
	fresh   bool   // there was no record: groups that say that they are ours are
	log     *checkpoint.Log
	made    []string                   // outermost first
	missing map[elastic.Class][]string // what this machine lacks of the limits of each class that is kept together

	promising sync.Mutex // whoever adds up what sandboxes are promised
}

// classes are those that a sandbox can have.
var classes = [...]elastic.Class{elastic.Standard, elastic.LatencyCritical, elastic.BestEffort}

// path is of the group that sandboxes of the class are in. No sandbox can have the
// name of a class's group: ids do not begin with '_'.
func (p *parent) path(class elastic.Class) string {
	if class.Together() {
		return p.name + "/_" + class.String()
	}
	return p.name
}

// paths are of all groups that sandboxes are in.
func (p *parent) paths() []string {
	var list []string
	for _, class := range classes {
		if path := p.path(class); !slices.Contains(list, path) {
			list = append(list, path)
		}
	}
	return list
}

// find opens the group of the sandbox called id, whatever its class. None matches
// os.ErrNotExist.
func (p *parent) find(id string) (g *cgroups.Cgroup, err error) {
	if p == nil {
		return nil, fs.ErrNotExist
	}
	for _, path := range p.paths() {
		if g, err = p.root.Open(path + "/" + id); !errors.Is(err, fs.ErrNotExist) {
			return g, err
		}
	}
	return nil, err
}

// below lists the names of all groups that could be sandboxes'.
func (p *parent) below() (all []string, err error) {
	if p == nil {
		return nil, nil
	}
	for _, path := range p.paths() {
		g, err := p.root.Open(path)
		if err != nil {
			return nil, err
		}
		names, err := g.Below()
		if err = errors.Join(err, g.Close()); err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return all, nil
}

// parentLine is one line of the record: first the intent to make a group, then
// that it is whole.
type parentLine struct {
	Parent string `json:"parent,omitzero"` // below which the sandboxes are from now on
	Making string `json:"making,omitzero"`
	Made   string `json:"made,omitzero"`
}

const parentRecord = "parent"

// openParent opens the group at path. It fails with [ErrInvalid] if the sandboxes of
// ids, which have records, are below another one.
func openParent(ctx context.Context, root *cgroups.Root, path, scope string, dir *checkpoint.Dir, ids []string) (*parent, error) {
	if strings.HasPrefix(path, "/") {
		return nil, &InvalidError{Field: "parent", Value: clip(path), Reason: "begins with a slash: it is relative to the top of each tree"}
	}
	p := &parent{root: root, name: path, scope: scope, missing: make(map[elastic.Class][]string)}
	var making, before string
	log, err := dir.Load(parentRecord, func(line []byte) error {
		var l parentLine
		err := json.Unmarshal(line, &l)
		if l.Parent != "" {
			before = l.Parent
		}
		if l.Making != "" {
			making = l.Making
		}
		if l.Made != "" {
			p.made = append(p.made, l.Made)
		}
		return err
	})
	if p.fresh = errors.Is(err, fs.ErrNotExist); p.fresh {
		log, err = dir.Create(parentRecord, parentLine{})
	}
	if log == nil {
		return nil, err
	}
	p.log = log
	if err == nil && before != path {
		if err = p.moved(before, ids); err == nil {
			err = p.log.Append(parentLine{Parent: path})
		}
	}
	if err == nil && making != "" && !slices.Contains(p.made, making) {
		err = p.unmake(making)
	}
	if err == nil {
		err = p.make(path)
	}
	for _, class := range classes {
		if err == nil && class.Together() {
			err = p.gather(ctx, class)
		}
	}
	if err != nil {
		err = fmt.Errorf("parent group %q: %w", clip(path), err)
		if p.fresh && len(p.made) == 0 { // there is nothing to tell of
			err = errors.Join(err, p.log.Remove())
		}
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// moved refuses to leave sandboxes behind: their processes would run on, and nobody
// would know of them.
func (p *parent) moved(before string, ids []string) error {
	if before == "" || len(ids) == 0 {
		return nil
	}
	g, err := p.root.Open(before)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // and so are they: the machine was restarted
	}
	if err != nil {
		return err
	}
	who := fmt.Sprintf("sandbox %q of this state directory is", ids[0])
	if len(ids) > 1 {
		who = fmt.Sprintf("%d sandboxes of this state directory, %q among them, are", len(ids), ids[0])
	}
	return errors.Join(&InvalidError{Field: "parent", Value: clip(p.name), Reason: fmt.Sprintf(
		"%s below %q: open it with that, and destroy what is there first", who, before)}, g.Close())
}

// unmake removes what a crash left of a group that was being made.
func (p *parent) unmake(path string) error {
	g, err := p.root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	g.Own()
	return errors.Join(g.Remove(context.Background()), g.Close())
}

// make opens the group at path, and makes what is missing on the way.
func (p *parent) make(path string) error {
	var prefix strings.Builder
	for element := range strings.SplitSeq(path, "/") {
		if prefix.Len() > 0 {
			prefix.WriteByte('/')
		}
		prefix.WriteString(element)
		g, err := p.openOne(prefix.String())
		if err != nil {
			return err
		}
		if p.group != nil {
			if err := p.group.Close(); err != nil {
				return errors.Join(err, g.Close())
			}
		}
		p.group = g
	}
	return nil
}

// gather opens or makes the group of a class, and gives it the class's limits.
func (p *parent) gather(ctx context.Context, class elastic.Class) error {
	g, err := p.openOne(p.path(class))
	if err != nil {
		return err
	}
	p.missing[class], err = rank(ctx, g, class, cgroups.Resources{}, true)
	return errors.Join(err, g.Close())
}

// openOne opens the group at path, and makes it if it is missing.
func (p *parent) openOne(path string) (*cgroups.Cgroup, error) {
	g, err := p.root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p.makeOne(path)
	}
	if err == nil && p.fresh {
		if err = p.remember(g); err != nil {
			return nil, errors.Join(err, g.Close())
		}
	}
	return g, err
}

func (p *parent) makeOne(path string) (*cgroups.Cgroup, error) {
	if err := p.log.Append(parentLine{Making: path}); err != nil {
		return nil, err
	}
	g, err := p.root.Create(path, 0)
	if err != nil {
		return nil, err
	}
	p.made = append(p.made, path)
	err = markable(g.SetLabel(labelHost, p.scope))
	if err == nil {
		err = p.log.Append(parentLine{Made: path})
	}
	if err != nil {
		return nil, errors.Join(err, g.Remove(context.Background()), g.Close())
	}
	return g, nil
}

// remember notes that we made a group, if it says so.
func (p *parent) remember(g *cgroups.Cgroup) error {
	labels, err := g.Labels()
	if err != nil || labels[labelHost] != p.scope {
		return markable(err)
	}
	p.made = append(p.made, g.Path())
	return p.log.Append(parentLine{Made: g.Path()})
}

// remove removes the groups that hosts of this state directory made, and the
// record of them.
func (p *parent) remove(ctx context.Context) error {
	if p == nil {
		return nil
	}
	for _, path := range slices.Backward(p.made) {
		g, err := p.root.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		g.Own()
		if err := errors.Join(g.Remove(ctx), g.Close()); err != nil {
			return err
		}
	}
	p.made = nil
	return p.log.Remove()
}

func (p *parent) close() error {
	var err error
	if p.group != nil {
		err = p.group.Close()
	}
	return errors.Join(err, p.log.Close())
}
