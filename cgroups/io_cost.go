// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caisson-run/caisson/internal/kernfs"
)

const (
	costQoSFile   = "io.cost.qos"
	costModelFile = "io.cost.model"
)

// IOCost is how io.cost treats one block device, for all groups: the weights of
// [IO] are heeded on devices where it is enabled. Unset fields are left as they
// are.
type IOCost struct {
	Device Device      `json:"device"`
	QoS    IOCostQoS   `json:"qos,omitzero"`
	Model  IOCostModel `json:"model,omitzero"`
}

// IOCostQoS is a device's line in io.cost.qos: when the device counts as
// saturated, and how far its speed is then adjusted.
type IOCostQoS struct {
	Enable  Switch      `json:"enable,omitzero"`
	Control CostControl `json:"control,omitzero"`

	// ReadPercent of reads are to take at most ReadLatency, and likewise for
	// writes; 0 percent means that latency does not count.
	ReadPercent  Percent  `json:"rpct,omitzero"`
	ReadLatency  Duration `json:"rlat,omitzero"`
	WritePercent Percent  `json:"wpct,omitzero"`
	WriteLatency Duration `json:"wlat,omitzero"`

	// Min and Max bound the speed, in percent of what the model says; 1 to
	// 10000.
	Min Percent `json:"min,omitzero"`
	Max Percent `json:"max,omitzero"`
}

// IOCostModel is a device's line in io.cost.model: what it can do, by which the
// kernel's linear model computes what each request costs.
type IOCostModel struct {
	Control      CostControl `json:"control,omitzero"`
	ReadBytes    Limit       `json:"rbps,omitzero"`      // bytes a second, sequential
	ReadSeqOps   Limit       `json:"rseqiops,omitzero"`  // sequential reads of 4 KiB a second
	ReadRandOps  Limit       `json:"rrandiops,omitzero"` // random ones
	WriteBytes   Limit       `json:"wbps,omitzero"`
	WriteSeqOps  Limit       `json:"wseqiops,omitzero"`
	WriteRandOps Limit       `json:"wrandiops,omitzero"`
}

// CostControl says who chooses the figures of io.cost. The zero CostControl
// leaves it as it is, and giving a figure means [CostUser].
type CostControl uint8

// Who chooses.
const (
	CostKeep CostControl = iota
	CostAuto             // the kernel, by the kind of device; its default
	CostUser
)

// String is "auto", "user", or nothing when unset.
func (c CostControl) String() string {
	switch c {
	case CostKeep:
		return ""
	case CostAuto:
		return "auto"
	case CostUser:
		return "user"
	}
	return "control(" + strconv.Itoa(int(c)) + ")"
}

// MarshalText is [CostControl.String].
func (c CostControl) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads "auto", "user" or nothing.
func (c *CostControl) UnmarshalText(text []byte) error {
	for v := CostKeep; v <= CostUser; v++ {
		if v.String() == string(text) {
			*c = v
			return nil
		}
	}
	return &InvalidError{Field: "control", Value: string(text), Reason: "neither auto nor user"}
}

// A Percent is a knob that holds a percentage with two decimals. The zero
// Percent leaves the knob as it is; PercentOf(0) sets it to nothing.
type Percent struct {
	is presence
	n  int64 // hundredths; -1 if it is no such number
}

// PercentOf is p percent, to the nearest hundredth.
func PercentOf(p float64) Percent {
	h := math.Round(p * 100)
	if math.IsNaN(h) || h < 0 || h > math.MaxInt32 {
		return Percent{set, -1}
	}
	return Percent{set, int64(h)}
}

// IsZero reports whether the percentage is unset.
func (p Percent) IsZero() bool { return p.is == unset }

// Value is the percentage, if there is one.
func (p Percent) Value() (percent float64, ok bool) { return float64(p.n) / 100, p.is == set }

// String is the number with two decimals, as the kernel writes it, or nothing
// when unset.
func (p Percent) String() string {
	if p.is == unset {
		return ""
	}
	if p.n < 0 {
		return "not a percentage"
	}
	return fmt.Sprintf("%d.%02d", p.n/100, p.n%100)
}

// MarshalText is [Percent.String].
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads decimal digits with at most two decimals, or nothing.
func (p *Percent) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Percent{}
		return nil
	}
	whole, part, _ := strings.Cut(string(text), ".")
	n, err := strconv.ParseUint(whole, 10, 24)
	h, err2 := strconv.ParseUint((part + "00")[:2], 10, 8)
	if err != nil || err2 != nil || len(part) > 2 || strings.HasSuffix(string(text), ".") {
		return &InvalidError{Field: "percent", Value: string(text), Reason: "not digits with at most two decimals"}
	}
	*p = Percent{set, int64(n*100 + h)}
	return nil
}

// Validate reports what the kernel would refuse or quietly change, as
// [InvalidError]s joined.
func (c IOCost) Validate() error {
	var v validator
	if c.Device.IsZero() || c.Device.Major > maxMajor || c.Device.Minor > maxMinor {
		v.bad("io.cost", c.Device, "no such device number")
	}
	q, m := c.QoS, c.Model
	v.onOff(costQoSFile+" enable", q.Enable)
	v.micros(costQoSFile+" rlat", q.ReadLatency)
	v.micros(costQoSFile+" wlat", q.WriteLatency)
	for _, f := range []struct {
		name        string
		p           Percent
		least, most int64
	}{{"rpct", q.ReadPercent, 0, 100}, {"wpct", q.WritePercent, 0, 100}, {"min", q.Min, 1, 10000}, {"max", q.Max, 1, 10000}} {
		if f.p.is == set && (f.p.n < 100*f.least || f.p.n > 100*f.most) {
			v.bad(costQoSFile+" "+f.name, f.p, fmt.Sprintf("not in %d to %d", f.least, f.most))
		}
	}
	if q.Min.is == set && q.Max.is == set && q.Min.n > q.Max.n {
		v.bad(costQoSFile+" min", q.Min, "above max, "+q.Max.String())
	}
	for _, f := range []struct {
		name    string
		control CostControl
		figures bool
	}{{costQoSFile, q.Control, q.figures()}, {costModelFile, m.Control, m.figures()}} {
		switch {
		case f.control > CostUser:
			v.bad(f.name+" ctrl", f.control, "neither auto nor user")
		case f.control == CostAuto && f.figures:
			v.bad(f.name+" ctrl", f.control, "together with figures, which make it user")
		}
	}
	for _, f := range m.fields() {
		if l := f.limit; !l.IsZero() && (l.is != set || l.n == 0 || l.n > math.MaxInt64) {
			v.bad(costModelFile+" "+f.name, l, "not a number above 0")
		}
	}
	for _, d := range []Duration{q.ReadLatency, q.WriteLatency} {
		if d.IsDefault() {
			v.bad(costQoSFile, d, "there is no default for one figure: control auto restores all")
		}
	}
	return errors.Join(v...)
}

func (q IOCostQoS) figures() bool {
	q.Enable, q.Control = Keep, CostKeep
	return q != IOCostQoS{}
}

func (m IOCostModel) figures() bool {
	m.Control = CostKeep
	return m != IOCostModel{}
}

func (m *IOCostModel) fields() []field {
	return []field{
		{"rbps", m.ReadBytes}, {"rseqiops", m.ReadSeqOps}, {"rrandiops", m.ReadRandOps},
		{"wbps", m.WriteBytes}, {"wseqiops", m.WriteSeqOps}, {"wrandiops", m.WriteRandOps},
	}
}

// words are the fields that are set, as the file has them.
func (q IOCostQoS) words() (w []string) {
	switch q.Enable {
	case On:
		w = append(w, "enable=1")
	case Off:
		w = append(w, "enable=0")
	case Keep:
	}
	w = control(w, q.Control, q.figures())
	for _, f := range []struct {
		name string
		p    Percent
		d    Duration
	}{
		{"rpct", q.ReadPercent, Duration{}}, {"rlat", Percent{}, q.ReadLatency},
		{"wpct", q.WritePercent, Duration{}}, {"wlat", Percent{}, q.WriteLatency},
		{"min", q.Min, Duration{}}, {"max", q.Max, Duration{}},
	} {
		if !f.p.IsZero() {
			w = append(w, f.name+"="+f.p.String())
		}
		if !f.d.IsZero() {
			w = append(w, f.name+"="+strconv.FormatUint(f.d.micros(), 10))
		}
	}
	return w
}

func (m IOCostModel) words() (w []string) {
	w = control(w, m.Control, m.figures())
	for _, f := range m.fields() {
		if !f.limit.IsZero() {
			w = append(w, f.name+"="+f.limit.String())
		}
	}
	return w
}

func control(w []string, c CostControl, figures bool) []string {
	if c == CostKeep && figures {
		c = CostUser
	}
	if c != CostKeep {
		w = append(w, "ctrl="+c.String())
	}
	return w
}

// costDefaults is what a missing line means.
var costDefaults = map[string]string{costQoSFile: "enable=0 ctrl=auto", costModelFile: "ctrl=auto"}

// SetIOCost sets how io.cost treats a device: all that c names or, if that
// fails, nothing. What holds already is not written. The files are at the top of
// the machine's cgroup2 hierarchy, so it is for the machine's owner, and not for
// a process in a cgroup namespace.
//
// Returns [InvalidError]s for values that the kernel would refuse or change, an
// [UnsupportedError] where there are no such files, and a [CoercedError] if the
// kernel makes something else of a value.
//
// Linux 5.4, CONFIG_BLK_CGROUP_IOCOST. https://docs.kernel.org/admin-guide/cgroup-v2.html
func (r *Root) SetIOCost(c IOCost) error {
	if err := c.Validate(); err != nil {
		return err
	}
	dir, err := r.costDir()
	if err != nil {
		return err
	}
	return setCosts(costDir{dir}, c)
}

// IOCost reads how io.cost treats the devices that it knows; others are as
// after boot: off, and CostAuto.
//
// Returns an [UnsupportedError] where there are no such files.
func (r *Root) IOCost() ([]IOCost, error) {
	dir, err := r.costDir()
	if err != nil {
		return nil, err
	}
	return readCosts(costDir{dir})
}

func readCosts(t costFiles) ([]IOCost, error) {
	k := &knobReader{t: costTree{files: t}}
	devices := make(map[Device]*IOCost)
	var order []Device
	at := func(key string) *IOCost {
		var d Device
		if d.UnmarshalText([]byte(key)) != nil {
			return &IOCost{} // a device that is gone
		}
		if devices[d] == nil {
			devices[d] = &IOCost{Device: d}
			order = append(order, d)
		}
		return devices[d]
	}
	k.lines(costQoSFile, func(key, rest string) bool { return at(key).QoS.scan(rest) })
	k.lines(costModelFile, func(key, rest string) bool { return at(key).Model.scan(rest) })
	if err := errors.Join(k.errs...); err != nil {
		return nil, err
	}
	all := make([]IOCost, 0, len(order))
	for _, d := range order {
		all = append(all, *devices[d])
	}
	return all, nil
}

// scan reads the words of a line. Those that are not known are left out.
func (q *IOCostQoS) scan(line string) bool {
	enable, ok := fieldOf(line, "enable")
	q.Enable = SwitchOf(enable == "1")
	word, _ := fieldOf(line, "ctrl")
	ok = ok && q.Control.UnmarshalText([]byte(word)) == nil
	for name, to := range map[string]*Percent{"rpct": &q.ReadPercent, "wpct": &q.WritePercent, "min": &q.Min, "max": &q.Max} {
		word, _ := fieldOf(line, name)
		ok = ok && to.UnmarshalText([]byte(word)) == nil
	}
	for name, to := range map[string]*Duration{"rlat": &q.ReadLatency, "wlat": &q.WriteLatency} {
		word, there := fieldOf(line, name)
		n, err := strconv.ParseUint(word, 10, 40)
		*to = DurationOf(time.Duration(n) * time.Microsecond)
		ok = ok && there && err == nil
	}
	if !ok {
		*q = IOCostQoS{}
	}
	return ok
}

func (m *IOCostModel) scan(line string) bool {
	word, _ := fieldOf(line, "ctrl")
	ok := m.Control.UnmarshalText([]byte(word)) == nil
	for name, to := range map[string]*Limit{
		"rbps": &m.ReadBytes, "rseqiops": &m.ReadSeqOps, "rrandiops": &m.ReadRandOps,
		"wbps": &m.WriteBytes, "wseqiops": &m.WriteSeqOps, "wrandiops": &m.WriteRandOps,
	} {
		ok = ok && fieldLimit(line, name, to)
	}
	if !ok {
		*m = IOCostModel{}
	}
	return ok
}

// costDir is the directory with the files of io.cost.
func (r *Root) costDir() (*kernfs.Dir, error) {
	e := &UnsupportedError{Feature: costQoSFile, Since: "Linux 5.4"}
	h := r.where[ControllerIO]
	switch {
	case h == nil:
		e.Reason = "no mounted hierarchy has the io controller"
	case !h.v2:
		e.Reason = "cgroup v1 has no such file"
	default:
		has, err := h.dir.Has(costQoSFile)
		if err != nil || has {
			return h.dir, err
		}
		e.Reason = "the top of " + h.dir.Path() + " has no such file: the kernel is built without CONFIG_BLK_CGROUP_IOCOST, or this is not the machine's top"
	}
	return nil, e
}

// costFiles are the files of io.cost.
type costFiles interface {
	read(ctl Controller, file string) (string, error)
	write(file, data string) error
	path(ctl Controller, file string) string
}

// costTree is a tree of which only files are read.
type costTree struct {
	tree
	files costFiles
}

func (t costTree) read(ctl Controller, file string) (string, error) { return t.files.read(ctl, file) }
func (t costTree) path(ctl Controller, file string) string          { return t.files.path(ctl, file) }

// costDir is the top of a hierarchy.
type costDir struct{ *kernfs.Dir }

func (d costDir) read(_ Controller, file string) (string, error) {
	b, err := d.ReadFile(file, nil)
	return strings.TrimSpace(string(b)), err
}

func (d costDir) write(file, data string) error         { return d.WriteFile(file, data) }
func (d costDir) path(_ Controller, file string) string { return d.Join(file) }

// setCosts sets both lines of a device, or neither.
func setCosts(t costFiles, c IOCost) error {
	undo, err := setCost(t, costModelFile, c.Device, c.Model.words())
	if err != nil {
		return err
	}
	if _, err := setCost(t, costQoSFile, c.Device, c.QoS.words()); err != nil {
		return errors.Join(err, undo())
	}
	return nil
}

// setCost writes the words of one device's line that do not hold yet, and
// returns what takes that back.
func setCost(t costFiles, file string, d Device, words []string) (undo func() error, err error) {
	undo = func() error { return nil }
	old, err := costLine(t, file, d)
	if err != nil || holds(old, words) {
		return undo, err
	}
	data := d.String() + " " + strings.Join(words, " ")
	if err := t.write(file, data); err != nil {
		return nil, noDevice(err)
	}
	undo = func() error { return t.write(file, d.String()+" "+old) }
	now, err := costLine(t, file, d)
	if err == nil && !holds(now, words) {
		err = &CoercedError{Path: t.path(ControllerIO, file), Wrote: data, Holds: d.String() + " " + now}
	}
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// costLine is a device's line as it can be written back: of what the kernel
// chose, only that it did.
func costLine(t costFiles, file string, d Device) (string, error) {
	text, err := t.read(ControllerIO, file)
	if err != nil {
		return "", err
	}
	line, ok := lineOf(text, d.String())
	if !ok {
		return costDefaults[file], nil
	}
	if word, _ := fieldOf(line, "ctrl"); word == CostAuto.String() {
		enable, has := fieldOf(line, "enable")
		if line = "ctrl=auto"; has {
			line = "enable=" + enable + " " + line
		}
	}
	return line, nil
}

// holds reports whether the line has all the words.
func holds(line string, words []string) bool {
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		if now, _ := fieldOf(line, name); now != value {
			return false
		}
	}
	return true
}

// noDevice explains the errno of a number that is no disk's.
func noDevice(err error) error {
	if errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("%w (it has to be the number of a whole disk, not of a partition: see /sys/block)", err)
	}
	return err
}
