// SPDX-License-Identifier: Apache-2.0

// flags.go reads the command line. Whatever is wrong with it becomes one
// sentence that says what, why, and what to do next.

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/output"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/probe"
)

// action is what the command line asks for.
type action int

const (
	doTrace action = iota
	doDoctor
	doRead
	showHelp
	showVersion
	showManual
	showCompletion
)

// options is a command line understood.
type options struct {
	action    action
	src, dst  string
	proto     string // "": any
	port      uint16 // 0: any
	duration  time.Duration
	packets   int
	sample    int // packets a second: 0 as many as half a CPU can tell, -1 all
	format    output.Format
	dropsOnly bool
	backend   string
	netns     string
	names     endpoint.Sources // where names are looked up
	probe     *probe.Spec      // nil: none
	readyFile string
	report    string // file; "": none
	write     string // capture: "" none, "-" standard output
	writeAll  bool
	snapLen   int    // bytes of each packet in the capture; 0: none, there is no capture
	file      string // to be read: "-" standard input
	noColor   bool
	verbose   bool
	shell     string // of showCompletion
	command   []string
}

// Values that flags choose from.
func protocols() []string { return []string{"tcp", "udp", "icmp", "sctp"} }
func backends() []string  { return []string{"auto", "fentry", "tracepoint"} }

// subcommands says who understands what follows each.
func subcommands() map[string]func([]string) (options, error) {
	return map[string]func([]string) (options, error){
		"doctor": parseDoctor, "read": parseRead, "man": parseManual, "completion": parseCompletion,
	}
}

// once is a string flag that may be given once only: of two --src one would
// be ignored silently.
type once struct {
	value string
	given bool
}

var errTwice = errors.New("given twice")

// Set takes the value.
func (o *once) Set(value string) error {
	if o.given {
		return errTwice
	}
	o.value, o.given = value, true
	return nil
}

// String gives the value.
func (o *once) String() string { return o.value }

// Type names the kind of value.
func (o *once) Type() string { return "string" }

// raw is the command line as typed.
type raw struct {
	set                                            *pflag.FlagSet
	src, dst, port, proto, duration, packets       once
	sample                                         once
	format, backend, netns, readyFile, probe       once
	report                                         once
	namespace, cache, socket, kubeconfig, hostRoot once
	write, snapLen                                 once
	dropsOnly, noColor, verbose, version, wantHelp bool
	writeAll                                       bool
}

func newRaw() *raw {
	r := &raw{set: pflag.NewFlagSet("pathtrace", pflag.ContinueOnError)}
	r.set.SetOutput(discard{})
	r.set.Usage = func() {}
	for _, f := range []struct {
		value       *once
		name, short string
	}{
		{&r.src, "src", "s"}, {&r.dst, "dst", "d"}, {&r.port, "port", "p"}, {&r.proto, "proto", ""},
		{&r.duration, "duration", ""}, {&r.packets, "packets", ""}, {&r.sample, "sample", ""}, {&r.format, "output", "o"},
		{&r.backend, "backend", ""}, {&r.netns, "netns", ""}, {&r.readyFile, "ready-file", ""}, {&r.probe, "probe", ""},
		{&r.namespace, "namespace", "n"}, {&r.cache, "cni-cache", ""}, {&r.socket, "cri-socket", ""},
		{&r.kubeconfig, "kubeconfig", ""}, {&r.hostRoot, "host-root", ""}, {&r.report, "report", ""},
		{&r.write, "write", "w"}, {&r.snapLen, "snaplen", ""},
	} {
		r.set.VarP(f.value, f.name, f.short, "")
	}
	r.set.BoolVar(&r.dropsOnly, "drops-only", false, "")
	r.set.BoolVar(&r.writeAll, "write-all", false, "")
	r.set.BoolVar(&r.noColor, "no-color", false, "")
	r.set.BoolVarP(&r.verbose, "verbose", "v", false, "")
	r.set.BoolVar(&r.version, "version", false, "")
	r.set.BoolVarP(&r.wantHelp, "help", "h", false, "")
	return r
}

// discard swallows what pflag would print.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// parseArgs understands the arguments after the program's name.
func parseArgs(args []string) (options, error) {
	if len(args) > 0 {
		if parse, ok := subcommands()[args[0]]; ok {
			return parse(args[1:])
		}
	}
	r := newRaw()
	if err := r.set.Parse(args); err != nil {
		return options{}, flagError(r.set, err)
	}
	switch {
	case r.wantHelp:
		return options{action: showHelp}, nil
	case r.version:
		return options{action: showVersion}, nil
	}
	return r.options()
}

// options checks every value.
func (r *raw) options() (options, error) {
	opt := options{
		dropsOnly: r.dropsOnly, noColor: r.noColor, verbose: r.verbose,
		src: r.src.value, dst: r.dst.value, netns: r.netns.value, readyFile: r.readyFile.value,
		report: r.report.value,
	}
	for _, check := range []func(*options) error{
		r.positional, r.empty, r.ends, r.protoAndPort, r.limits, r.choices, r.sources, r.reproduction, r.capture,
	} {
		if err := check(&opt); err != nil {
			return options{}, err
		}
	}
	return opt, nil
}

// positional takes what follows -- as the command; nothing else may stand
// alone.
func (r *raw) positional(opt *options) error {
	args, dash := r.set.Args(), r.set.ArgsLenAtDash()
	before := args
	if dash >= 0 {
		before, opt.command = args[:dash], args[dash:]
	}
	if len(before) > 0 {
		return fmt.Errorf("unexpected argument %q: a command to run comes after --, an end after --src or --dst", before[0])
	}
	if dash >= 0 && (len(opt.command) == 0 || opt.command[0] == "") {
		return errors.New("no command after --: say what to run, as in -- ping -c 3 10.244.1.6")
	}
	return nil
}

// empty refuses flags whose value is "", as an unset variable in a script
// leaves them.
func (r *raw) empty(*options) error {
	var err error
	r.set.Visit(func(f *pflag.Flag) {
		if o, ok := f.Value.(*once); ok && strings.TrimSpace(o.value) == "" && err == nil {
			err = fmt.Errorf("--%s is empty: give it a value or leave it out", f.Name)
		}
	})
	return err
}

func (r *raw) ends(opt *options) error {
	const say = "give a pod, svc/name, an address, a CIDR, an interface, node or any"
	switch {
	case opt.src == "" && opt.dst == "":
		return fmt.Errorf("--src and --dst are missing: %s for each; see pathtrace --help", say)
	case opt.src == "":
		return fmt.Errorf("--src is missing: %s to say where packets start", say)
	case opt.dst == "":
		return fmt.Errorf("--dst is missing: %s to say where packets go", say)
	case sameEnd(opt.src, opt.dst) && opt.src == "any":
		return errors.New("--src and --dst are both any: name at least one end")
	case sameEnd(opt.src, opt.dst):
		return fmt.Errorf("--src and --dst are both %s: name two different ends", opt.src)
	}
	return nil
}

// sameEnd tells whether two ends are the same as far as their spelling shows;
// the resolver compares what they stand for.
func sameEnd(a, b string) bool { return canonical(a) == canonical(b) }

func canonical(end string) string {
	bare := strings.TrimPrefix(end, "ip:")
	if addr, err := netip.ParseAddr(bare); err == nil {
		return addr.Unmap().String()
	}
	if prefix, err := netip.ParsePrefix(bare); err == nil {
		if prefix.IsSingleIP() {
			return prefix.Addr().Unmap().String()
		}
		return prefix.Masked().String()
	}
	for _, scheme := range []string{"if:", "pod:"} {
		end = strings.TrimPrefix(end, scheme)
	}
	return end
}

func (r *raw) protoAndPort(opt *options) error {
	if r.proto.given {
		opt.proto = strings.ToLower(r.proto.value)
		if !slices.Contains(protocols(), opt.proto) {
			hint := ""
			if strings.HasPrefix(opt.proto, "icmp") {
				hint = "; icmp covers ICMPv6 too"
			}
			return fmt.Errorf("unknown protocol %q: use one of %s%s", r.proto.value, strings.Join(protocols(), ", "), hint)
		}
	}
	if !r.port.given {
		return nil
	}
	port, err := strconv.ParseUint(r.port.value, 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("bad port %q: give a number from 1 to 65535", r.port.value)
	}
	if opt.proto == "icmp" {
		return errors.New("icmp has no ports: leave out --port, or use --proto tcp, udp or sctp")
	}
	opt.port = uint16(port)
	return nil
}

func (r *raw) limits(opt *options) error {
	if r.duration.given {
		d, err := time.ParseDuration(r.duration.value)
		if err != nil || d <= 0 {
			return fmt.Errorf("bad duration %q: give a time above 0 with its unit, such as 10s, 2m or 500ms", r.duration.value)
		}
		opt.duration = d
	}
	if r.packets.given {
		n, err := strconv.ParseInt(r.packets.value, 10, 32)
		if err != nil || n <= 0 {
			return fmt.Errorf("bad number of packets %q: give a whole number above 0", r.packets.value)
		}
		opt.packets = int(n)
	}
	switch r.sample.value {
	case "", "auto":
		if r.sample.given && r.sample.value == "" {
			return fmt.Errorf("bad --sample: give packets a second, all, or auto")
		}
	case "all":
		opt.sample = -1
	default:
		n, err := strconv.ParseInt(r.sample.value, 10, 32)
		if err != nil || n < 1 {
			return fmt.Errorf("bad --sample %q: give packets a second (a whole number above 0), all, or auto", r.sample.value)
		}
		opt.sample = int(n)
	}
	return nil
}

func (r *raw) choices(opt *options) error {
	opt.format = output.Formats()[0]
	if r.format.given {
		format, err := output.Lookup(r.format.value)
		if err != nil {
			return err
		}
		opt.format = format
	}
	opt.backend = backends()[0]
	if !r.backend.given {
		return nil
	}
	opt.backend = r.backend.value
	switch {
	case opt.backend == "kprobe":
		return fmt.Errorf("the kprobe backend is not in this version: use one of %s", strings.Join(backends(), ", "))
	case !slices.Contains(backends(), opt.backend):
		return fmt.Errorf("unknown backend %q: use one of %s", opt.backend, strings.Join(backends(), ", "))
	}
	return nil
}
