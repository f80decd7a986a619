// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/caisson-run/caisson/elastic"
)

// The plots' size, in pixels.
const (
	width, height = 900, 180
	left, bottom  = 40, 20
)

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Replay</title>
<style>
 body { font: 14px system-ui, sans-serif; margin: 2em; max-width: 960px; color: #222 }
 svg { background: #fafafa; display: block } text { font-size: 11px; fill: #555 }
 .key span { margin-right: 1.5em } .key i { display: inline-block; width: 1.5em; height: 3px; vertical-align: middle; margin-right: .4em }
</style>
<h1>What each variant would have done</h1>
<p class="key">{{range .Key}}<span><i style="background:{{.Color}}"></i>{{.Name}}</span>{{end}}</p>
{{range .Runs}}<h2>{{.Name}}</h2>{{.Plot}}{{end}}
</html>
`))

// line is one curve: a figure in CPUs.
type line struct {
	Name, Color string
	of          func(point) float64
}

var lines = []line{
	{"busy, in CPUs", "#999", func(p point) float64 { return p.machine }},
	{"services use", "#1a73e8", func(p point) float64 { return p.service }},
	{"best effort used", "#e8a33d", func(p point) float64 { return p.bestEffort }},
	{"best effort may use", "#c0392b", func(p point) float64 { return p.allowed }},
}

func draw(w io.Writer, runs []*run) error {
	type drawn struct {
		Name string
		Plot template.HTML
	}
	data := struct {
		Key  []line
		Runs []drawn
	}{Key: lines}
	for _, r := range runs {
		data.Runs = append(data.Runs, drawn{r.name, r.plot()})
	}
	return page.Execute(w, data)
}

// plot is the run as SVG. What is put into it are numbers, and text that is
// escaped.
func (r *run) plot() template.HTML {
	last := r.points[len(r.points)-1]
	span := cmp.Or(last.at, 1)
	x := func(at float64) float64 { return left + at/span*(width-left) }
	y := func(cpus float64) float64 { return (height - bottom) * (1 - cpus/cmp.Or(last.cpus, 1)) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg width="%d" height="%d" role="img">`, width, height)
	for i := 0.0; i <= last.cpus; i += max(1, last.cpus/8) {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#e4e4e4"/><text x="4" y="%.1f">%.0f</text>`, left, y(i), width, y(i)+4, i)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">0 s</text><text x="%d" y="%d" text-anchor="end">%.0f s</text>`,
		left, height-4, width-4, height-4, span)
	for _, l := range lines {
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, l.Color)
		for _, p := range r.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(p.at), y(l.of(p)))
		}
		b.WriteString(`"/>`)
	}
	for _, m := range r.marks {
		color := map[elastic.Rung]string{elastic.Freeze: "#2e86c1", elastic.Kill: "#000", elastic.Release: "#27ae60"}[m.rung]
		fmt.Fprintf(&b, `<path d="M%.1f 0V%d" stroke="%s" stroke-dasharray="3 3"><title>%s</title></path>`,
			x(m.at), height-bottom, color, template.HTMLEscapeString(m.what))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // see above
}
