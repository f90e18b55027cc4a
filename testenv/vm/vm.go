// SPDX-License-Identifier: Apache-2.0

// Package vm runs one command of the host under another Linux kernel: it
// fetches the kernel from Debian's archive, boots it in QEMU on a read-only
// view of the host's own file tree (with a memory-only overlay, so that the
// command may write anywhere and nothing stays) and hands back the command's
// output and exit status. Tests use it to meet every kernel pathtrace supports
// with the programs that are already there.
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// Defaults of Options.
const (
	DefaultCPUs    = 2
	DefaultMemory  = "3G"
	DefaultTimeout = 4 * time.Minute
)

// readyLimit is how long a VM may take until its command starts: some ten
// times what software emulation takes on an idle machine.
const readyLimit = 75 * time.Second

// maxBoots bounds how often one Run starts a VM: a VM that never became ready
// is started once more.
const maxBoots = 2

// Options say what to run and where.
type Options struct {
	Kernel       string        // series, one of Lines()
	Command      []string      // program and arguments, looked up in the VM's PATH
	Dir          string        // the command's working directory; empty: the caller's
	Env          []string      // NAME=VALUE, added to PATH, HOME, LANG and VM_OUT
	CPUs         int           // 0: DefaultCPUs
	Memory       string        // with unit M or G; empty: DefaultMemory
	SingleThread bool          // emulate all CPUs in one thread: for jobs that attach many BPF programs
	Timeout      time.Duration // for boot and command together, downloads apart; 0: DefaultTimeout
	CacheDir     string        // kernels; empty: DefaultCacheDir
	Out          string        // existing host folder that gets what the command leaves in $VM_OUT; empty: nothing is copied

	Stdout  io.Writer // the command's standard output, as it comes; nil: thrown away
	Stderr  io.Writer // the command's standard error, as it comes; nil: thrown away
	Console io.Writer // the kernel's console, as it comes; nil: only its end is kept, for error messages
	Log     io.Writer // one line for every download and every second boot; nil: thrown away
}

// Result tells how a run went.
type Result struct {
	ExitCode int           // of the command; 125: the VM could not run it, and said why on Stderr
	Release  string        // the VM's uname -r
	Accel    string        // kvm or tcg
	Boots    int           // VMs started: 2 when the first never became ready
	Ready    time.Duration // from starting the VM to starting the command, in the last boot
	Wall     time.Duration // the whole run, downloads apart
}

// ErrNotReady is wrapped by the error of a run whose VMs never came as far as
// the command.
var ErrNotReady = errors.New("the VM never became ready")

// ErrTimeout is wrapped by the error of a run that took longer than
// Options.Timeout.
var ErrTimeout = errors.New("timed out")

// Run boots a VM and runs one command in it. A command that fails is no error:
// its status is Result.ExitCode. The error is one line; when the VM died it
// carries the end of the kernel's console.
func Run(ctx context.Context, o Options) (Result, error) {
	o, err := o.complete()
	if err != nil {
		return Result{}, err
	}
	h, err := prepare(ctx, o)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("%w after %v", ErrTimeout, o.Timeout))
	defer cancel()
	start := time.Now()
	result, err := bootUntilReady(ctx, o, func(ctx context.Context) (Result, error) { return h.boot(ctx, o) })
	result.Wall = time.Since(start)
	if err != nil {
		return result, fmt.Errorf("vm %s: %w", h.kernel.Release, err)
	}
	return result, nil
}

// bootUntilReady calls boot again, once, when the VM never became ready.
func bootUntilReady(ctx context.Context, o Options, boot func(context.Context) (Result, error)) (Result, error) {
	for n := 1; ; n++ {
		result, err := boot(ctx)
		result.Boots = n
		if err == nil || !errors.Is(err, ErrNotReady) || n == maxBoots || ctx.Err() != nil {
			return result, err
		}
		why, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(o.Log, "vm %s: boot %d of %d: %s: starting it again\n", o.Kernel, n, maxBoots, strings.TrimSuffix(why, consoleHeading))
	}
}

var (
	memoryPattern   = regexp.MustCompile(`^[1-9][0-9]*[MG]$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
)

// complete checks the options and fills in what was left out.
func (o Options) complete() (Options, error) {
	if _, err := lineNamed(o.Kernel); err != nil {
		return o, err
	}
	if len(o.Command) == 0 {
		return o, errors.New("no command given: name the program the VM is to run")
	}
	for _, kv := range o.Env {
		if !variablePattern.MatchString(kv) {
			return o, fmt.Errorf("environment %q: want NAME=VALUE", kv)
		}
	}
	if o.CPUs == 0 {
		o.CPUs = DefaultCPUs
	}
	if o.CPUs < 0 {
		return o, fmt.Errorf("%d CPUs: want at least 1", o.CPUs)
	}
	if o.Memory == "" {
		o.Memory = DefaultMemory
	}
	if !memoryPattern.MatchString(o.Memory) {
		return o, fmt.Errorf("memory %q: want a number with unit M or G, such as %s", o.Memory, DefaultMemory)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout < 0 {
		return o, fmt.Errorf("timeout %v: want more than 0", o.Timeout)
	}
	return o.completePaths()
}

func (o Options) completePaths() (Options, error) {
	if o.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return o, fmt.Errorf("working directory: %w", err)
		}
		o.Dir = dir
	}
	if o.Out != "" {
		if info, err := os.Stat(o.Out); err != nil {
			return o, fmt.Errorf("output folder: %w", err)
		} else if !info.IsDir() {
			return o, fmt.Errorf("output folder: %s is not a folder", o.Out)
		}
	}
	for _, w := range []*io.Writer{&o.Stdout, &o.Stderr, &o.Console, &o.Log} {
		if *w == nil {
			*w = io.Discard
		}
	}
	return o, nil
}

// host is what every boot of one Run needs of the host.
type host struct {
	kernel  Kernel
	busybox string
	accel   accelerator
	mounts  []string
}

func prepare(ctx context.Context, o Options) (host, error) {
	if os.Geteuid() != 0 {
		return host{}, errors.New("running a VM needs root, to share this machine's file tree with it: run as root or with sudo")
	}
	if err := checkTools(bootTools()); err != nil {
		return host{}, err
	}
	var (
		h   host
		err error
	)
	if h.busybox, err = findBusybox(); err != nil {
		return host{}, err
	}
	if h.mounts, err = hostMounts(); err != nil {
		return host{}, err
	}
	cache, err := OpenCache(o.CacheDir, o.Log)
	if err != nil {
		return host{}, err
	}
	if h.kernel, err = cache.Kernel(ctx, o.Kernel); err != nil {
		return host{}, err
	}
	h.accel = accelTCG
	if o.SingleThread {
		h.accel = accelTCGSingle
	}
	kvm, err := cache.kvmWorks(ctx, h)
	if err != nil {
		return host{}, err
	}
	if kvm {
		h.accel = accelKVM
	}
	return h, nil
}

// name is the accelerator as Result tells it.
func (a accelerator) name() string {
	name, _, _ := strings.Cut(string(a), "-")
	return name
}
