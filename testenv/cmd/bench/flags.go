// SPDX-License-Identifier: Apache-2.0

// flags.go reads the command line.

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/testenv/bench"
	"github.com/pathtrace/pathtrace/testenv/cluster"
)

type options struct {
	size        bench.Size
	bin         string
	backends    []string
	builds      []string
	others      []string
	kinds       []string
	rounds      int
	slot        time.Duration
	patience    time.Duration
	cpus        int
	label       string
	json        string
	floor       bool
	halted      bool
	costs       bool
	guard       bool
	baselineOut string
	own         bool
	rates       []int
	ownTime     time.Duration
	growth      bool
	growPods    []int
	growRules   []int
}

const usage = `measure what traces cost others, the traced flow and the machine

  bench [flags]                compare tools in rounds
  bench [flags] --own          flood the traced flow at growing rates
  bench [flags] --growth       compare on nodes of growing size
  bench tables FILE...         draw up saved results again

flags:
`

// quick are the settings of --quick: less than a minute.
const (
	quickRounds = 5
	quickSlot   = 300 * time.Millisecond
)

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{size: bench.DefaultSize()}
	var dataplane string
	var quick bool
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(stderr, usage, f.FlagUsages()) }
	f.StringVar(&dataplane, "dataplane", string(o.size.Dataplane), "the node's: calico-legacy or calico-nft")
	f.IntVar(&o.size.Endpoints, "endpoints", o.size.Endpoints, "pods of the node, each with its veth and rules")
	f.IntVar(&o.size.Fillers, "fillers", 0, "rules more that every forwarded packet is compared with")
	f.StringVar(&o.bin, "pathtrace", "build/pathtrace", "the build that is measured")
	f.StringSliceVar(&o.backends, "backends", []string{"fentry", "tracepoint"}, "pathtrace's backends")
	f.StringArrayVar(&o.builds, "build", nil, "NAME=PROGRAM [ARG...]: a further build of pathtrace, or other arguments for it; may be given again")
	f.StringSliceVar(&o.others, "others", bench.OtherNames(), "other programs that take part where they are installed")
	f.StringSliceVar(&o.kinds, "traffic", nil, fmt.Sprintf("kinds of traffic (default all: %v)", bench.Kinds()))
	f.IntVar(&o.rounds, "rounds", 5, "rounds")
	f.DurationVar(&o.slot, "slot", 2*time.Second, "time of each kind of traffic in a slot")
	f.DurationVar(&o.patience, "patience", 30*time.Second, "how long to wait for others' BPF programs to go before a slot")
	f.IntVar(&o.cpus, "cpus", 0, "keep everything on so many CPUs (default: all)")
	f.StringVar(&o.label, "label", "native", "name of this machine in the results and in the baseline")
	f.StringVar(&o.json, "json", "", "file to add the results to, as JSON Lines")
	f.BoolVar(&o.floor, "floor", false, "compare also with empty programs at the same hooks")
	f.BoolVar(&o.halted, "halted", false, "compare also with traces whose process is stopped: what their programs take alone")
	f.BoolVar(&o.costs, "costs", true, "tell what each BPF program takes")
	f.BoolVar(&o.guard, "guard", false, "fail when others keep less than the committed baseline allows")
	f.StringVar(&o.baselineOut, "baseline-out", "", "file to write the baseline to, with this run's results taken over")
	f.BoolVar(&quick, "quick", false, fmt.Sprintf("%d rounds of short slots, pathtrace only", quickRounds))
	f.BoolVar(&o.own, "own", false, "flood the traced flow instead")
	f.IntSliceVar(&o.rates, "rates", []int{100, 1000, 5000, 10000, 20000, 50000}, "rates of --own, packets a second")
	f.DurationVar(&o.ownTime, "own-time", 10*time.Second, "how long each flood of --own lasts")
	f.BoolVar(&o.growth, "growth", false, "compare on nodes of growing size instead")
	f.IntSliceVar(&o.growPods, "grow-endpoints", []int{10, 100, 500}, "endpoints of --growth")
	f.IntSliceVar(&o.growRules, "grow-fillers", []int{100, 1000, 10000}, "filler rules of --growth")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: see bench --help", err)
	}
	if quick {
		o.rounds, o.slot, o.others, o.costs = quickRounds, quickSlot, nil, false
	}
	o.size.Dataplane = cluster.Dataplane(dataplane)
	return o, o.check(f.Args())
}

func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("argument %q is not understood: see bench --help", rest[0])
	}
	if _, err := cluster.ParseDataplane(string(o.size.Dataplane)); err != nil {
		return err
	}
	if o.rounds < 1 || o.slot <= 0 || o.ownTime <= 0 {
		return fmt.Errorf("--rounds %d, --slot %v, --own-time %v: all have to be more than 0", o.rounds, o.slot, o.ownTime)
	}
	if o.own && o.growth {
		return errors.New("--own and --growth: take one of them")
	}
	if (o.own || o.growth) && (o.guard || o.baselineOut != "") {
		return errors.New("--guard and --baseline-out are for comparisons on one node: leave --own and --growth out")
	}
	for _, k := range o.kinds {
		if !knownKind(k) {
			return fmt.Errorf("--traffic %s: take one of %v", k, bench.Kinds())
		}
	}
	return o.size.Check()
}

func knownKind(name string) bool {
	for _, k := range bench.Kinds() {
		if string(k) == name {
			return true
		}
	}
	return false
}

// traffic gives the kinds to run.
func (o *options) traffic() []bench.Kind {
	if len(o.kinds) == 0 {
		return bench.Kinds()
	}
	var all []bench.Kind
	for _, k := range o.kinds {
		all = append(all, bench.Kind(k))
	}
	return all
}

// build is a pathtrace to measure.
type build struct {
	name, bin string
	args      []string
}

// pathtraces gives all of them: every backend of the build, and further builds.
func (o *options) pathtraces() ([]build, error) {
	var all []build
	for _, b := range o.backends {
		all = append(all, build{b, o.bin, []string{"--backend", b}})
	}
	for _, text := range o.builds {
		name, command, ok := strings.Cut(text, "=")
		words := strings.Fields(command)
		if !ok || name == "" || len(words) == 0 {
			return nil, fmt.Errorf("--build %q: want NAME=PROGRAM [ARG...]", text)
		}
		all = append(all, build{name, words[0], words[1:]})
	}
	if len(all) == 0 {
		return nil, errors.New("nothing to measure: name a backend or a build")
	}
	return all, nil
}
