// SPDX-License-Identifier: Apache-2.0

// Command node builds test nodes for people: it shows what stands, lets it
// stand until it is interrupted or a command has run, and removes it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/owner"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

type options struct {
	env     cluster.Options
	fault   string
	json    bool
	list    bool
	traffic bool
	stale   bool
	flow    traffic.Spec
	command []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var failed *exec.ExitError
	switch {
	case errors.Is(err, pflag.ErrHelp):
	case errors.As(err, &failed):
		os.Exit(max(failed.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var dataplane string
	flags := pflag.NewFlagSet("node", pflag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: node [flags] [-- COMMAND [ARG...]]\n\n%s\nCOMMAND runs in node1's network namespace, with NODE1_NETNS, CLIENT_NETNS, SERVER_IP... in its environment.\n", flags.FlagUsages())
	}
	flags.StringVar(&dataplane, "dataplane", string(cluster.CalicoLegacy), "kind of node: calico- or flannel-, with legacy, nft or nftables rules, or with ipip, wireguard, ipvs or host-gw")
	flags.IntVar(&o.env.Nodes, "nodes", 1, "how many nodes, 1 or 2")
	flags.BoolVar(&o.env.KubeProxy, "kube-proxy", false, "add kube-proxy's rules")
	flags.StringVar(&o.fault, "fault", "", "break it: a fault's name")
	flags.BoolVar(&o.list, "list", false, "list faults and leave")
	flags.BoolVar(&o.stale, "clean", false, "only remove what dead owners left")
	flags.BoolVar(&o.json, "json", false, "describe what stands as JSON")
	flags.BoolVar(&o.traffic, "traffic", false, "keep traffic running, and say what becomes of it on standard error")
	flags.StringVar(&o.flow.Proto, "proto", "tcp", "traffic: icmp, tcp or udp")
	flags.StringVar(&o.flow.Src, "src", "default/client", "traffic: source")
	flags.StringVar(&o.flow.Dst, "dst", "default/server", "traffic: destination")
	flags.IntVar(&o.flow.Port, "port", 0, "traffic: port (default 8080)")
	flags.IntVar(&o.flow.Size, "size", 0, "traffic: payload bytes")
	flags.BoolVar(&o.flow.IPv6, "ipv6", false, "traffic: over IPv6")
	flags.BoolVar(&o.flow.DontFragment, "df", false, "traffic: with DF")
	flags.IntVar(&o.flow.TTL, "ttl", 0, "traffic: TTL")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.command = flags.Args()
	var err error
	o.env.Dataplane, err = cluster.ParseDataplane(dataplane)
	return o, err
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	switch {
	case o.list:
		return listFaults(os.Stdout)
	case o.stale:
		names, err := owner.CleanStale()
		for _, name := range names {
			fmt.Println("removed", name)
		}
		return err
	}
	e, err := cluster.New(ctx, o.env)
	if err != nil {
		return err
	}
	return errors.Join(stand(ctx, e, o), e.Close())
}

// stand breaks the environment if asked, shows it and waits.
func stand(ctx context.Context, e *cluster.Env, o options) (err error) {
	var applied *fault.Applied
	if o.fault != "" {
		warm := o.flow
		warm.Count = 1
		if _, err := traffic.Send(ctx, e, warm); err != nil {
			return err
		}
		if applied, err = fault.Break(ctx, e, o.fault, o.flow); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, applied.Undo()) }()
	}
	if err := show(os.Stdout, e, applied, o.json); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.traffic {
		done := make(chan struct{})
		go func() { defer close(done); keepSending(ctx, e, o.flow) }()
		defer func() { cancel(); <-done }()
	}
	if len(o.command) > 0 {
		return runCommand(ctx, e, o.command)
	}
	<-ctx.Done()
	return nil
}

func keepSending(ctx context.Context, e *cluster.Env, t traffic.Spec) {
	for ctx.Err() == nil {
		r, err := traffic.Send(ctx, e, t)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "node: traffic:", err)
			return
		}
		fmt.Fprintln(os.Stderr, "traffic:", r)
		select {
		case <-ctx.Done():
		case <-timeAfter():
		}
	}
}

func runCommand(ctx context.Context, e *cluster.Env, command []string) error {
	node := e.Node(1)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.Env = append(os.Environ(), "CNI_CACHE="+node.CNICache)
	for _, n := range e.Nodes {
		cmd.Env = append(cmd.Env, strings.ToUpper(n.Name)+"_NETNS="+n.Netns.Path)
	}
	for _, p := range e.Pods {
		name := strings.ToUpper(p.Name)
		cmd.Env = append(cmd.Env, name+"_NETNS="+p.Netns.Path, name+"_IP="+p.IPv4.String(), name+"_IP6="+p.IPv6.String(), name+"_IF="+p.HostInterface)
	}
	if err := node.Netns.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", command[0], err)
	}
	return cmd.Wait()
}

func listFaults(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tFINDING\tNODES\tON\tWHAT")
	for _, f := range fault.All() {
		kinds := make([]string, 0, 2)
		for _, k := range f.Kinds {
			kinds = append(kinds, string(k))
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", f.Name, f.Code, max(f.Nodes, 1), strings.Join(kinds, ","), f.Doc)
	}
	return t.Flush()
}

func show(w io.Writer, e *cluster.Env, a *fault.Applied, asJSON bool) error {
	d := describe(e, a)
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(d)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tADDRESS\tTUNNEL\tCNI CACHE\tNETNS")
	for _, n := range d.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", n.Name, n.Address, n.Tunnel, n.CNICache, n.Netns)
	}
	fmt.Fprintln(t, "\nPOD\tADDRESS\tIPV6\tON NODE AS\tNETNS")
	for _, p := range d.Pods {
		fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s %s\t%s\n", p.Namespace, p.Name, p.IPv4, p.IPv6, p.Node, p.HostInterface, p.Netns)
	}
	if len(d.Services) > 0 {
		fmt.Fprintln(t, "\nSERVICE\tADDRESS\tPORT\tENDPOINTS")
		for _, s := range d.Services {
			fmt.Fprintf(t, "%s\t%s\t%d/%s\t%s\n", s.Name, s.ClusterIP, s.Port, s.Proto, strings.Join(s.Endpoints, " "))
		}
	}
	if d.Fault != nil {
		fmt.Fprintf(t, "\nbroken: %s (finding %s) at %s: %s\n", d.Fault.Name, d.Fault.Code, d.Fault.Place, d.Fault.Doc)
		if d.Fault.Rule != "" {
			fmt.Fprintf(t, "rule: %s\n", d.Fault.Rule)
		}
	}
	return t.Flush()
}
