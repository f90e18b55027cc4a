// SPDX-License-Identifier: Apache-2.0

// Command matrix prints which causes the scenario tests found on which kernel
// and kind of node, from the output of their runs. Its exit status is 1 if one
// was missed, or something was found that nothing had caused. With --wrong it
// only names the scenarios of which that is so: a trace that serves several of
// them ends in the test of another one, and that test is what fails.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pathtrace/pathtrace/testenv/matrix"
	"github.com/pathtrace/pathtrace/tracer/cause"
)

func main() {
	good, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(2)
	}
	if !good {
		os.Exit(1)
	}
}

func run(files []string, out io.Writer) (good bool, err error) {
	onlyWrong := len(files) > 0 && files[0] == "--wrong"
	if onlyWrong {
		files = files[1:]
	}
	if len(files) == 0 {
		return false, errors.New("usage: matrix [--wrong] FILE...: the output of scenario tests, such as build/results/*.txt")
	}
	var results []matrix.Result
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return false, err
		}
		results, err = matrix.Read(file, results)
		if err := errors.Join(err, file.Close()); err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
	}
	if onlyWrong {
		for _, name := range matrix.Wrong(results) {
			if _, err := fmt.Fprintln(out, name); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	if len(results) == 0 {
		return false, errors.New("no scenario ran: there is no result in those files")
	}
	totals, err := matrix.Table(out, results, cause.Codes())
	if err != nil {
		return false, err
	}
	_, err = fmt.Fprintf(out, "%d codes; in all %v\n", len(cause.Codes()), totals)
	return totals.Good(), err
}
