// SPDX-License-Identifier: Apache-2.0

// Command bench measures what traces cost, on a test node, and prints tables:
//
//	bench [flags]                compare tools in rounds
//	bench [flags] --own          flood the traced flow at growing rates
//	bench [flags] --growth       compare on nodes of growing size
//	bench tables FILE...         draw up saved results again
//
// Exit status: 0, 1 when it could not measure, 2 when others keep less than the
// committed baseline allows (--guard).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/testenv/bench"
)

const (
	exitFailed = 1
	exitWorse  = 2
)

// errWorse ends a run whose results are worse than the baseline; what is worse
// was printed.
var errWorse = errors.New("others pay more than the baseline allows")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil || errors.Is(err, pflag.ErrHelp):
	case errors.Is(err, errWorse):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(exitWorse)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(exitFailed)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "tables" {
		return redraw(args[1:], stdout)
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.cpus > 0 {
		if err := bench.LimitCPUs(o.cpus); err != nil {
			return err
		}
	}
	r := &runner{options: o, stdout: stdout, stderr: stderr}
	return errors.Join(r.measure(ctx), r.save())
}

// redraw prints the tables of saved results.
func redraw(files []string, w io.Writer) error {
	if len(files) == 0 {
		return errors.New("no file of results named: try bench tables FILE")
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		records, err := bench.Read(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := bench.Tables(w, records); err != nil {
			return err
		}
	}
	return nil
}
