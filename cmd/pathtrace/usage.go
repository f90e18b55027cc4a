// SPDX-License-Identifier: Apache-2.0

// usage.go says of every flag what it takes and what it is for. The manual page
// and the completion scripts are made from this; help.go has the short form.

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/cmd/pathtrace/manual"
	"github.com/pathtrace/pathtrace/output"
)

// usage is what there is to say of a flag.
type usage struct {
	name  string
	takes string      // what its value is called; "" for a switch
	says  string      // a sentence or more
	kind  manual.Kind // how its value is completed
	of    []string    // the values to choose from, for manual.Choice
}

// formatNames are the output formats.
func formatNames() []string {
	var names []string
	for _, f := range output.Formats() {
		names = append(names, f.Name)
	}
	return names
}

// usages has a row for every flag that this version takes, in the order of the
// manual.
func usages() []usage {
	ends := []string{"node", "any", "svc/", "pod:", "svc:", "ip:", "if:"}
	return []usage{
		{"src", "END", "Where packets start. Replies to them are followed without asking.", manual.Interface, ends},
		{"dst", "END", "Where packets go.", manual.Interface, ends},
		{"namespace", "NAME", "The namespace of pods and services named without one; default if it is not given.", manual.Free, nil},
		{"port", "N", "Only packets to this port of the destination, and replies from it.", manual.Free, nil},
		{"proto", "P", "Only packets of this protocol: " + list(protocols()) + ". icmp covers ICMPv6 too.", manual.Choice, protocols()},
		{"duration", "D", "Stop after this time, such as 10s, 2m or 500ms. Without it, --packets, --probe or a command, the trace lasts until Ctrl-C.", manual.Free, nil},
		{"packets", "N", "Stop after so many packets whose fate is known.", manual.Free, nil},
		{"sample", "N", "Follow so many packets a second at most; all follows every one, auto (the default) as many as half a CPU can tell. What is left out is counted exactly.", manual.Choice, []string{"auto", "all"}},
		{"probe", "PROBE", "Send the packet that reproduces the problem from inside the source pod: icmp, tcp:PORT or udp:PORT. The trace ends with it.", manual.Choice, []string{"icmp", "tcp:", "udp:"}},
		{"output", "FORMAT", "text tells the story of the packets, wide every hop of each with function, buffer, mark and conntrack state, json is one object a line. text is the default.", manual.Choice, formatNames()},
		{"drops-only", "", "Leave out packets that were delivered, or left the node in good order. They are counted all the same.", manual.Free, nil},
		{"write", "FILE", "Write what died into an annotated capture (pcapng) too, which wireshark opens and pathtrace read prints again; - is standard output.", manual.File, nil},
		{"write-all", "", "Every hop of every packet goes into the capture, not only what died.", manual.Free, nil},
		{"snaplen", "N", "How many bytes of each packet the capture holds: 1 to 65535, 256 if it is not given.", manual.Free, nil},
		{"report", "FILE", "Write the trace as one HTML file too, when it is over. The file needs no network.", manual.File, nil},
		{"backend", "B", "How the kernel is watched: auto (the default) takes the most exact that loads, fentry or tracepoint.", manual.Choice, backends()},
		{"netns", "PATH", "The node's network namespace; without it the one that pathtrace is started in.", manual.File, nil},
		{"host-root", "DIR", "Where the node's /proc, /run and /var are mounted, if pathtrace runs in a container.", manual.File, nil},
		{"cni-cache", "PATH", "The CNI result cache that pods' addresses are looked up in.", manual.File, nil},
		{"cri-socket", "PATH", "The container runtime's socket that pods are looked up at.", manual.File, nil},
		{"kubeconfig", "PATH", "The kubeconfig of the API that pods and services are looked up at.", manual.File, nil},
		{"ready-file", "FILE", "Create this file when nothing can be missed any more.", manual.File, nil},
		{"no-color", "", "No colours, even on a terminal. NO_COLOR in the environment does the same.", manual.Free, nil},
		{"verbose", "", "Say on standard error what was attached and what could not be.", manual.Free, nil},
		{"version", "", "Say which pathtrace this is.", manual.Free, nil},
		{"help", "", "A screen of help.", manual.Free, nil},
	}
}

func list(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// flagsTold joins the usages with the flags as they are parsed. One that nobody
// wrote a row for is a mistake in the program.
func flagsTold() ([]manual.Flag, error) {
	set := newRaw().set
	var told []manual.Flag
	rows := map[string]bool{}
	for _, u := range usages() {
		f := set.Lookup(u.name)
		if f == nil {
			return nil, fmt.Errorf("usage of --%s: no such flag", u.name)
		}
		rows[u.name] = true
		told = append(told, manual.Flag{Name: f.Name, Short: f.Shorthand, Takes: u.takes, Says: u.says, Kind: u.kind, Values: u.of})
	}
	var err error
	set.VisitAll(func(f *pflag.Flag) {
		if !rows[f.Name] {
			err = fmt.Errorf("no usage for --%s", f.Name)
		}
	})
	return told, err
}

// commandsTold are the subcommands.
func commandsTold() []manual.Command {
	return []manual.Command{
		{Name: "doctor", Says: "Say what this node lets us see: kernel, BTF, backends, hooks, both iptables backends, the CNI found and the pods. Exit status 0 if a trace can be made here."},
		{Name: "read", Takes: "FILE", Says: "Print the trace in a capture that --write wrote again, on any machine and without root; -o, --drops-only and --report as for a trace. - is standard input."},
		{Name: "man", Says: "Print this manual page: pathtrace man | man -l -"},
		{Name: "completion", Takes: "SHELL", Values: manual.Shells(), Says: "Print completion for " + list(manual.Shells()) + ": source <(pathtrace completion bash)"},
	}
}

// manualFor gives what pathtrace man or completion print.
func manualFor(opt options) (string, error) {
	flags, err := flagsTold()
	if err != nil {
		return "", err
	}
	p := manual.Program{Name: "pathtrace", Version: version(), Flags: flags, Commands: commandsTold(), Sections: sections()}
	if opt.action == showManual {
		return p.Page(), nil
	}
	return p.Completion(opt.shell)
}

// parseManual understands pathtrace man.
func parseManual(args []string) (options, error) {
	if len(args) > 0 {
		return options{}, fmt.Errorf("unexpected argument %q: pathtrace man takes none", args[0])
	}
	return options{action: showManual}, nil
}

// parseCompletion understands pathtrace completion SHELL.
func parseCompletion(args []string) (options, error) {
	if len(args) != 1 {
		return options{}, fmt.Errorf("completion needs a shell: use one of %s", strings.Join(manual.Shells(), ", "))
	}
	opt := options{action: showCompletion, shell: args[0]}
	if _, err := manualFor(opt); err != nil {
		return options{}, err
	}
	return opt, nil
}

// sections is what the manual says beyond flags and subcommands.
func sections() manual.Sections {
	return manual.Sections{
		Does: "show where, by which rule and why a packet dies on this node",
		Synopsis: []string{
			"pathtrace --src END --dst END [flags] [-- COMMAND [ARG...]]", "pathtrace doctor [-o json]", "pathtrace read [-o FORMAT] [--drops-only] [--report FILE] FILE", "pathtrace man", "pathtrace completion SHELL",
		},
		Description: []string{
			"pathtrace follows the packets between two ends through the kernel of a Kubernetes node, there and back, and tells every hop: interfaces, bridge, netfilter, conntrack, NAT, routing, neighbours, tunnels and sockets. For a packet that dies it tells the kernel's reason and the function, the iptables (legacy or nft) or nftables rule that did it with the way through the chains that led there, and what is wrong in words, with what speaks for it and what to do.",
			"It watches with eBPF and changes nothing: it adds no rule, sysctl, module, interface or mark, and nothing is left when it ends or is killed.",
			"What follows -- is run, and traced until shortly after its end. Ctrl-C stops in good order and prints the verdict; a second one quits at once.",
		},
		More: []manual.Section{
			{Title: "ENDS", Text: []string{
				"An end is a pod (NAME or NAMESPACE/NAME), a service (svc/NAME or NAMESPACE/svc/NAME), an IPv4 or IPv6 address, a CIDR, a host-side interface of a pod (cali..., veth...), node (this node's own addresses) or any. A bare word is an address if it parses as one, else an interface if there is one of that name, else a pod; pod:, svc:, ip: or if: in front settle it.",
			}},
			{Title: "OUTPUT", Text: []string{
				"The trace goes to standard output. The line that says that nothing is missed from now on, warnings, and on a terminal a line that counts packets go to standard error.",
			}},
		},
		Exit: []manual.Exit{
			{Status: "0", Means: "All packets seen arrived, or left this node in good order."},
			{Status: "1", Means: "Usage or run-time error."},
			{Status: "2", Means: "At least one packet died on this node, on the way there or back."},
			{Status: "3", Means: "No packet of the flow was seen."},
			{Status: "130", Means: "Stopped by a second signal, or before the trace was ready."},
		},
		Examples: examples(),
		SeeAlso:  []string{"ip(8)", "iptables(8)", "nft(8)", "tcpdump(8)"},
	}
}

// examples are shown by the help and the manual.
func examples() []manual.Example {
	return []manual.Example{
		{Line: "pathtrace -s client -d prod/db -p 5432 --duration 30s", Says: "Trace while somebody reproduces it."},
		{Line: "pathtrace -s default/client -d svc/web --probe tcp:80 --report web.html", Says: "Reproduce it with one connect from inside the pod, and keep a report to send."},
		{Line: "pathtrace -s 10.244.1.5 -d any --drops-only -- curl -m2 http://10.96.0.10", Says: "Run the reproduction, and see only what dies."},
	}
}
