// SPDX-License-Identifier: Apache-2.0

// Command demo shows in seconds what pathtrace is for: it builds a Kubernetes
// node in network namespaces, breaks it, sends real traffic and lets the built
// program say where the packets die. Nothing outside its namespaces changes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/story"
)

// shownByDefault is what the demo tells when no scenario is asked for: a TCP connect on
// a Calico node whose replies are killed by a rule.
const shownByDefault = "calico-legacy/rule-drop-return-tcp"

type options struct {
	scenario string
	list     bool
	bin      string
	output   string
	backend  string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	flags.StringVar(&o.scenario, "scenario", "", "what to show: a name of --list, or a part of one (default "+shownByDefault+")")
	flags.BoolVar(&o.list, "list", false, "list the scenarios and leave")
	flags.StringVar(&o.bin, "bin", os.Getenv("PATHTRACE_BIN"), "the built pathtrace (default build/pathtrace)")
	flags.StringVarP(&o.output, "output", "o", "text", "pathtrace's output format")
	flags.StringVar(&o.backend, "backend", "auto", "pathtrace's backend")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.bin == "" {
		o.bin = filepath.Join("build", "pathtrace")
	}
	if o.list {
		return list(out)
	}
	s, err := find(o.scenario)
	if err != nil {
		return err
	}
	return show(ctx, o, s, out)
}

// list prints the scenarios, one line each.
func list(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, d := range cluster.Dataplanes() {
		for _, s := range story.Of(d) {
			code := s.Expect.Code
			if code == "" {
				code = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, code, s.Doc)
		}
	}
	return w.Flush()
}

// find takes a scenario's whole name, or the first one, the demo's dataplane
// before the others, in which the given part occurs as a case.
func find(name string) (*story.Scenario, error) {
	if name == "" {
		name = shownByDefault
	}
	if s, err := story.Find(name); err == nil {
		return s, nil
	}
	for _, d := range cluster.Dataplanes() {
		for _, s := range story.Of(d) {
			_, short, _ := strings.Cut(s.Name, "/")
			if short == name || strings.TrimSuffix(short, "-"+s.Traffic.Proto) == name || s.Expect.Code == name {
				return &s, nil
			}
		}
	}
	return nil, fmt.Errorf("no scenario %q: `make demo LIST=1` lists them", name)
}

// show builds the node, breaks it, traces and removes it again.
func show(ctx context.Context, o options, s *story.Scenario, out io.Writer) (err error) {
	fmt.Fprintf(out, "demo: %s\n", s.Name)
	fmt.Fprintf(out, "      %s: %s\n\n", code(s), s.Doc)
	e, err := cluster.New(ctx, s.Options())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	applied, err := s.Apply(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, applied.Undo()) }()
	src, dst, err := s.Ends(e)
	if err != nil {
		return err
	}
	return trace(ctx, o, e, s, src, dst, out)
}

func code(s *story.Scenario) string {
	if s.Expect.Code == "" {
		return "healthy"
	}
	return s.Expect.Code
}

// trace runs pathtrace around the traffic and passes its story on.
func trace(ctx context.Context, o options, e *cluster.Env, s *story.Scenario, src, dst string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "pathtrace-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ready := filepath.Join(dir, "ready")
	args := []string{"--netns", e.Node(1).Netns.Path, "--src", src, "--dst", dst, "--proto", s.Traffic.Proto,
		"--backend", o.backend, "-o", o.output, "--ready-file", ready}
	fmt.Fprintf(out, "$ pathtrace %s\n", strings.Join(args[:len(args)-2], " "))
	cmd := exec.CommandContext(ctx, o.bin, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", o.bin, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	if err := awaitFile(ctx, ready, exited); err != nil {
		return err
	}
	sent, err := s.Run(ctx, e)
	if err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond) // for the last packet's end
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("interrupt pathtrace: %w", err)
	}
	err = <-exited
	fmt.Fprintf(out, "\nwhat the sender saw: %s\n", sent)
	return verdict(err, s)
}

// verdict compares pathtrace's exit status with the scenario: 2 where packets
// were to die, 0 where all was well.
func verdict(err error, s *story.Scenario) error {
	status := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		status = exit.ExitCode()
	case err != nil:
		return err
	}
	want := 0
	for _, o := range s.Expect.Outcomes {
		if o.Died() {
			want = 2
		}
	}
	if status != want {
		return fmt.Errorf("pathtrace ended with exit status %d, expected %d", status, want)
	}
	return nil
}

// awaitFile waits for the ready file, or for the program to end before it.
func awaitFile(ctx context.Context, file string, exited <-chan error) error {
	for {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		select {
		case err := <-exited:
			return fmt.Errorf("pathtrace ended before it was ready: %v", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
