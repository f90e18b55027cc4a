// SPDX-License-Identifier: Apache-2.0

package matrix

// This file prints the matrix.

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Table prints a table for each kernel, a row for each code and a column for
// each kind of node; a cell has the worst of its scenarios. Codes that no
// scenario makes are told too.
func Table(out io.Writer, results []Result, codes []string) (Totals, error) {
	var all Totals
	for _, run := range runs(results) {
		var of []Result
		for _, r := range results {
			if r.run() == run {
				of = append(of, r)
			}
		}
		t, err := table(out, run, of, codes)
		if err != nil {
			return all, err
		}
		all = Totals{all.OK + t.OK, all.Likely + t.Likely, all.Missed + t.Missed, all.Healthy + t.Healthy, all.Alarms + t.Alarms}
	}
	return all, nil
}

func (r Result) run() string { return "kernel " + r.Kernel + ", " + r.Backend }

func (r Result) dataplane() string {
	name, _, _ := strings.Cut(r.Scenario, "/")
	return name
}

// runs lists kernels and backends.
func runs(results []Result) (all []string) {
	for _, r := range results {
		if !slices.Contains(all, r.run()) {
			all = append(all, r.run())
		}
	}
	slices.Sort(all)
	return all
}

func table(out io.Writer, run string, results []Result, codes []string) (Totals, error) {
	var columns []string
	cells := map[string]map[string]verdict{} // by code and dataplane
	var t Totals
	var wrong []string
	for _, r := range results {
		if !slices.Contains(columns, r.dataplane()) {
			columns = append(columns, r.dataplane())
		}
		if len(r.Alarms) > 0 {
			t.Alarms++
			wrong = append(wrong, fmt.Sprintf("false alarm: %s: found %s", r.Scenario, strings.Join(r.Alarms, ", ")))
		}
		if r.Code == "" {
			t.Healthy++
			continue
		}
		if cells[r.Code] == nil {
			cells[r.Code] = map[string]verdict{}
		}
		v := r.verdict()
		cells[r.Code][r.dataplane()] = max(cells[r.Code][r.dataplane()], v)
		switch v {
		case ok:
			t.OK++
		case likely:
			t.Likely++
		default:
			t.Missed++
			wrong = append(wrong, fmt.Sprintf("missed: %s: no finding %s", r.Scenario, r.Code))
		}
	}
	slices.Sort(columns)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s\t%s\n", run, strings.Join(columns, "\t"))
	for _, code := range withOthers(codes, cells) {
		row := []string{code}
		for _, c := range columns {
			row = append(row, cells[code][c].String())
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return t, err
	}
	for _, line := range wrong {
		fmt.Fprintln(out, line)
	}
	_, err := fmt.Fprintf(out, "%v\n\n", t)
	return t, err
}

// withOthers adds codes that are expected and are no cause's.
func withOthers(codes []string, cells map[string]map[string]verdict) []string {
	all := slices.Clone(codes)
	for code := range cells {
		if !slices.Contains(all, code) {
			all = append(all, code)
		}
	}
	slices.Sort(all)
	return all
}
