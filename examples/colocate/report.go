// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// row is one way, medians over the rounds.
type row struct {
	Way            way
	P50, P99, P999 float64 // ms
	Ratio          float64 // of p99 to that alone
	Rate           float64 // answers a second
	Batch          float64 // CPUs
	OfIdle         float64 // share of the CPUs that the service leaves
	Kills          uint64
}

func rows(results []outcome) []row {
	var list []row
	var base float64
	for _, w := range ways {
		var p50, p99, p999, rate, batch, ofIdle []float64
		r := row{Way: w}
		for _, o := range results {
			if o.way != w {
				continue
			}
			p50 = append(p50, milliseconds(quantile(o.latencies, 0.5)))
			p99 = append(p99, milliseconds(quantile(o.latencies, 0.99)))
			p999 = append(p999, milliseconds(quantile(o.latencies, 0.999)))
			rate = append(rate, float64(len(o.latencies))/o.seconds)
			batch = append(batch, o.batch)
			ofIdle = append(ofIdle, o.batch/(o.cpus-o.service))
			r.Kills += o.kills
		}
		if len(p50) == 0 {
			continue
		}
		r.P50, r.P99, r.P999, r.Rate = median(p50), median(p99), median(p999), median(rate)
		r.Batch, r.OfIdle = median(batch), median(ofIdle)
		if w == alone {
			base = r.P99
		}
		if base > 0 {
			r.Ratio = r.P99 / base
		}
		list = append(list, r)
	}
	return list
}

func report(out io.Writer, results []outcome) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tp50 ms\tp99 ms\tp99.9 ms\tp99 / alone\tanswers/s\tbatch CPUs\tof idle\tservice killed\t")
	for _, r := range rows(results) {
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.3f\t%.2f\t%.0f\t%.2f\t%.0f%%\t%d\t\n",
			r.Way, r.P50, r.P99, r.P999, r.Ratio, r.Rate, r.Batch, 100*r.OfIdle, r.Kills)
	}
	w.Flush()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"bar":     func(v, most float64) float64 { return 420 * v / most },
	"percent": func(v float64) string { return fmt.Sprintf("%.0f%%", 100*v) },
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Colocate</title>
<style>
 body { font: 14px system-ui, sans-serif; margin: 2em; max-width: 860px; color: #222 }
 td, th { padding: .3em .8em; text-align: right; white-space: nowrap } td:first-child { text-align: left }
 i { display: inline-block; height: 12px; vertical-align: middle; background: #1a73e8 } i.b { background: #e8a33d }
</style>
<h1>A service and its neighbours</h1>
<h2>Latency of the service, p99</h2>
<table>{{range .Rows}}<tr><td>{{.Way}}</td><td style="text-align:left"><i style="width:{{printf "%.1f" (bar .P99 $.Most)}}px"></i> {{printf "%.2f ms, %.2fx" .P99 .Ratio}}</td></tr>{{end}}</table>
<h2>CPUs of batch work, of what the service leaves</h2>
<table>{{range .Rows}}<tr><td>{{.Way}}</td><td style="text-align:left"><i class="b" style="width:{{printf "%.1f" (bar .OfIdle 1.0)}}px"></i> {{percent .OfIdle}}</td></tr>{{end}}</table>
<h2>All figures, medians</h2>
<table><tr><th></th><th>p50 ms</th><th>p99 ms</th><th>p99.9 ms</th><th>answers/s</th><th>batch CPUs</th></tr>
{{range .Rows}}<tr><td>{{.Way}}</td><td>{{printf "%.3f" .P50}}</td><td>{{printf "%.3f" .P99}}</td><td>{{printf "%.3f" .P999}}</td><td>{{printf "%.0f" .Rate}}</td><td>{{printf "%.2f" .Batch}}</td></tr>{{end}}</table>
</html>
`))

func draw(w io.Writer, results []outcome) error {
	data := struct {
		Rows []row
		Most float64
	}{Rows: rows(results)}
	for _, r := range data.Rows {
		data.Most = max(data.Most, r.P99)
	}
	return page.Execute(w, data)
}
