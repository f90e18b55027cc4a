// SPDX-License-Identifier: Apache-2.0

// Command vm runs a command of this machine under another kernel, in a VM:
//
//	vm --kernel 6.12 [flags] -- COMMAND [ARG...]
//	vm fetch [KERNEL...]      download the newest kernels (default: all)
//	vm list                   show the cached ones
//
// The command sees this machine's files and starts in the current folder; what
// it writes is gone afterwards, but for what it leaves in $VM_OUT when --out
// is given. Its exit status becomes vm's own; 124: the time was up, 125: the
// VM could not be run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"

	"github.com/pathtrace/pathtrace/testenv/vm"
	"github.com/spf13/pflag"
)

// Exit statuses of vm itself; the command's own are passed through. They are
// those of timeout(1).
const (
	exitTimeout = 124
	exitFailed  = 125
)

const usage = `run a command of this machine under another kernel, in a VM

  vm --kernel 6.12 [flags] -- COMMAND [ARG...]
  vm fetch [KERNEL...]      download the newest kernels (default: all)
  vm list                   show the cached ones

flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	o := vm.Options{Stdout: stdout, Stderr: stderr, Log: stderr}
	var showConsole, summary bool
	flags := pflag.NewFlagSet("vm", pflag.ContinueOnError)
	flags.SetInterspersed(false)
	flags.Usage = func() { fmt.Fprint(stderr, usage, flags.FlagUsages()) }
	flags.StringVar(&o.Kernel, "kernel", "", fmt.Sprintf("kernel series, one of %v", vm.Lines()))
	flags.IntVar(&o.CPUs, "cpus", vm.DefaultCPUs, "number of CPUs")
	flags.StringVar(&o.Memory, "memory", vm.DefaultMemory, "memory, with unit M or G")
	flags.BoolVar(&o.SingleThread, "single-thread", false, "emulate all CPUs in one thread: for jobs that attach many BPF programs")
	flags.DurationVar(&o.Timeout, "timeout", vm.DefaultTimeout, "for boot and command together")
	flags.StringArrayVar(&o.Env, "env", nil, "NAME=VALUE for the command's environment; may be given again")
	flags.StringVar(&o.Out, "out", "", "folder that gets what the command leaves in $VM_OUT")
	flags.StringVar(&o.CacheDir, "cache", "", "folder of kernels (default: pathtrace/kernels in the user's cache)")
	flags.BoolVar(&showConsole, "console", false, "show the kernel's console on standard error")
	flags.BoolVar(&summary, "summary", false, "end with a line on standard error: release, status, boots, times")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0, nil
		}
		return exitFailed, fmt.Errorf("%w: see vm --help", err)
	}
	if showConsole {
		o.Console = stderr
	}
	if command := flags.Args(); o.Kernel == "" && len(command) > 0 {
		switch command[0] {
		case "fetch":
			return report(fetch(ctx, o.CacheDir, command[1:], stdout, stderr))
		case "list":
			return report(list(o.CacheDir, stdout, stderr))
		}
	}
	if o.Kernel == "" {
		return exitFailed, fmt.Errorf("no kernel named: give --kernel with one of %v, or see vm --help", vm.Lines())
	}
	o.Command = flags.Args()
	return runVM(ctx, o, summary)
}

func report(err error) (int, error) {
	if err != nil {
		return exitFailed, err
	}
	return 0, nil
}

func runVM(ctx context.Context, o vm.Options, summary bool) (int, error) {
	result, err := vm.Run(ctx, o)
	if summary {
		fmt.Fprintf(o.Log, "vm %s: %s, %s, exit %d, boots %d, ready %.1f s, wall %.1f s\n",
			o.Kernel, result.Release, result.Accel, result.ExitCode, result.Boots, result.Ready.Seconds(), result.Wall.Seconds())
	}
	switch {
	case errors.Is(err, vm.ErrTimeout):
		return exitTimeout, err
	case err != nil:
		return exitFailed, err
	}
	return result.ExitCode, nil
}

// fetch brings the newest kernel of every named line into the cache; one that
// cannot be had does not keep the others away.
func fetch(ctx context.Context, dir string, names []string, stdout, stderr io.Writer) error {
	cache, err := vm.OpenCache(dir, stderr)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = vm.Lines()
	}
	var failed []error
	for _, name := range names {
		k, err := cache.Fetch(ctx, name)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintf(stdout, "%s\t%s\t%s\n", k.Line, k.Release, k.Version)
	}
	return errors.Join(failed...)
}

func list(dir string, stdout, stderr io.Writer) error {
	cache, err := vm.OpenCache(dir, stderr)
	if err != nil {
		return err
	}
	kernels, err := cache.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, k := range kernels {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Line, k.Release, k.Version, k.Dir)
	}
	for _, name := range vm.Lines() {
		if !slices.ContainsFunc(kernels, func(k vm.Kernel) bool { return k.Line == name }) {
			fmt.Fprintf(w, "%s\tnot cached\n", name)
		}
	}
	return w.Flush()
}
