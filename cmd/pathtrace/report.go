// SPDX-License-Identifier: Apache-2.0

// report.go is --report: the trace as an HTML file beside what is printed.
// Neither output's failure keeps the other from getting all there is.

package main

import (
	"github.com/pathtrace/pathtrace/output"
	"github.com/pathtrace/pathtrace/output/report"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// reporting is the report of a trace, if one was asked for.
type reporting struct {
	guard *guard // nil: not asked for
}

// prepareReport looks whether the file can be written before anything is
// attached. An empty path is no report.
func prepareReport(path string, dropsOnly bool) (reporting, error) {
	if path == "" {
		return reporting{}, nil
	}
	file, err := report.Create(path)
	if err != nil {
		return reporting{}, err
	}
	var sink model.Sink = file
	if dropsOnly {
		sink = output.DropsOnly(sink)
	}
	return reporting{&guard{next: sink, stop: func() {}}}, nil
}

// beside gives a sink for the report and for out.
func (r reporting) beside(out model.Sink) model.Sink {
	if r.guard == nil {
		return out
	}
	return output.Tee(out, r.guard)
}

// err says why there is no report although one was asked for.
func (r reporting) err() error {
	if r.guard == nil {
		return nil
	}
	return r.guard.err
}
