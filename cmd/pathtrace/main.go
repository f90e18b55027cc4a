// SPDX-License-Identifier: Apache-2.0

// Command pathtrace shows, on a Kubernetes node with Calico or Flannel, where,
// by which rule and why a packet dies. This package is flags and wiring: it
// reads the command line (flags.go), opens a trace (wire.go), runs it together
// with the command or probe that reproduces the problem (trace.go, command.go,
// probe.go), writes the capture (capture.go) and picks the exit status; doctor.go
// is the subcommand that looks at the node alone, read.go the one that shows a
// capture's trace again.
package main

import (
	"fmt"
	"os"
	"strings"
)

// Exit statuses beside those of model.Summary.ExitStatus.
const (
	exitOK          = 0
	exitError       = 1   // usage or run-time error
	exitInterrupted = 130 // a second signal, or one before the trace was ready: 128 + SIGINT
)

func main() { os.Exit(run(os.Args[1:], openTracer)) }

// run is main with the tracer as an argument, for tests.
func run(args []string, open opener) int {
	opt, err := parseArgs(args)
	if err != nil {
		return complain(err)
	}
	switch opt.action {
	case showHelp:
		return answer(helpText())
	case showVersion:
		return answer(versionText())
	case showManual, showCompletion:
		text, err := manualFor(opt)
		if err != nil {
			return complain(err)
		}
		return answer(text)
	case doDoctor:
		return diagnose(opt, open)
	case doRead:
		return read(opt)
	}
	return trace(opt, open)
}

// answer prints what was asked for to standard output.
func answer(text string) int {
	if _, err := os.Stdout.WriteString(text); err != nil {
		return complain(fmt.Errorf("standard output: %w", err))
	}
	return exitOK
}

// complain prints an error as the one line the user gets.
func complain(err error) int {
	fmt.Fprintln(os.Stderr, "pathtrace: "+oneLine(err.Error()))
	return exitError
}

// oneLine joins the lines of a text, since errors from below (the verifier's,
// for one) may have several.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " ")
}
