// SPDX-License-Identifier: Apache-2.0

// flags_test.go checks what each command line is understood as, and that every
// wrong one gets the sentence meant for it.

package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/probe"
)

func TestUnderstood(t *testing.T) {
	for name, tc := range map[string]struct {
		args string
		want options
	}{
		"short": {"-s 10.0.0.1 -d 10.0.0.2 -p 80", options{src: "10.0.0.1", dst: "10.0.0.2", port: 80}},
		"all": {
			"--src node --dst any --proto UDP --port 53 --duration 1m30s --packets 7 --drops-only --backend tracepoint --netns /proc/1/ns/net --ready-file r --no-color -v",
			options{src: "node", dst: "any", proto: "udp", port: 53, duration: 90 * time.Second, packets: 7, dropsOnly: true,
				backend: "tracepoint", netns: "/proc/1/ns/net", readyFile: "r", noColor: true, verbose: true},
		},
		"command keeps its flags": {"-s a -d b -- ping -c 3 --help", options{src: "a", dst: "b", command: []string{"ping", "-c", "3", "--help"}}},
		"command with dashes":     {"-s a -d b -- sh -- x", options{src: "a", dst: "b", command: []string{"sh", "--", "x"}}},
		"equals signs":            {"--src=a --dst=b --port=1", options{src: "a", dst: "b", port: 1}},
		"help wins":               {"--help", options{action: showHelp}},
		"help after others":       {"-s a -h", options{action: showHelp}},
		"version":                 {"--version", options{action: showVersion}},
		"names": {
			"-s a -d svc/b -n kube-system --cni-cache /c --cri-socket /s --kubeconfig /k --host-root /h --probe TCP:80",
			options{src: "a", dst: "svc/b", probe: &probe.Spec{Proto: "tcp", Port: 80},
				names: endpoint.Sources{Namespace: "kube-system", CNICache: "/c", CRISocket: "/s", Kubeconfig: "/k", HostRoot: "/h"}},
		},
		"capture":            {"-s a -d b -w f.pcapng", options{src: "a", dst: "b", write: "f.pcapng", snapLen: 256}},
		"capture of all":     {"-s a -d b --write=- --write-all --snaplen 65535", options{src: "a", dst: "b", write: "-", writeAll: true, snapLen: 65535}},
		"read":               {"read --drops-only --no-color f", options{action: doRead, file: "f", dropsOnly: true, noColor: true}},
		"read from a pipe":   {"read -", options{action: doRead, file: "-"}},
		"help of read":       {"read -h", options{action: showHelp}},
		"doctor":             {"doctor --netns /n -n demo -v", options{action: doDoctor, netns: "/n", verbose: true, names: endpoint.Sources{Namespace: "demo"}}},
		"help of doctor":     {"doctor -h", options{action: showHelp}},
		"icmp both ways":     {"-s a -d b --proto icmp", options{src: "a", dst: "b", proto: "icmp"}},
		"different families": {"-s 10.0.0.1 -d 10.0.0.1/24", options{src: "10.0.0.1", dst: "10.0.0.1/24"}},
	} {
		got, err := parseArgs(strings.Fields(tc.args))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tc.want.action != showHelp && tc.want.action != showVersion {
			if tc.want.backend == "" {
				tc.want.backend = "auto"
			}
			if got.format.Name != "text" {
				t.Errorf("%s: format %s", name, got.format.Name)
			}
		}
		got.format = tc.want.format
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, tc.want)
		}
	}
}

// badInputs are command lines and the one line each gets, after "pathtrace: ".
// The binary is run with them too (main_test.go).
func badInputs() map[string]string {
	return map[string]string{
		"":                                             "--src and --dst are missing: give a pod, svc/name, an address, a CIDR, an interface, node or any for each; see pathtrace --help",
		"-d 10.0.0.2":                                  "--src is missing: give a pod, svc/name, an address, a CIDR, an interface, node or any to say where packets start",
		"-s 10.0.0.1":                                  "--dst is missing: give a pod, svc/name, an address, a CIDR, an interface, node or any to say where packets go",
		"-s 10.0.0.1 -d 10.0.0.1":                      "--src and --dst are both 10.0.0.1: name two different ends",
		"-s ip:10.0.0.1 -d 10.0.0.1":                   "--src and --dst are both ip:10.0.0.1: name two different ends",
		"-s fd00::1 -d fd00:0::1/128":                  "--src and --dst are both fd00::1: name two different ends",
		"-s 10.0.1.0/16 -d 10.0.0/16":                  "", // not the same spelling of anything: the resolver's business
		"-s 10.0.1.0/16 -d 10.0.0.0/16":                "--src and --dst are both 10.0.1.0/16: name two different ends",
		"-s if:cali1 -d cali1":                         "--src and --dst are both if:cali1: name two different ends",
		"-s any -d any":                                "--src and --dst are both any: name at least one end",
		"-s a -d b -s c":                               "--src is given twice: give it once",
		"-s a -d b -p 0":                               `bad port "0": give a number from 1 to 65535`,
		"-s a -d b -p 65536":                           `bad port "65536": give a number from 1 to 65535`,
		"-s a -d b -p http":                            `bad port "http": give a number from 1 to 65535`,
		"-s a -d b -p -1":                              `bad port "-1": give a number from 1 to 65535`,
		"-s a -d b -p 80 --proto icmp":                 "icmp has no ports: leave out --port, or use --proto tcp, udp or sctp",
		"-s a -d b --proto gre":                        `unknown protocol "gre": use one of tcp, udp, icmp, sctp`,
		"-s a -d b --proto icmpv6":                     `unknown protocol "icmpv6": use one of tcp, udp, icmp, sctp; icmp covers ICMPv6 too`,
		"-s a -d b --duration 10":                      `bad duration "10": give a time above 0 with its unit, such as 10s, 2m or 500ms`,
		"-s a -d b --duration -5s":                     `bad duration "-5s": give a time above 0 with its unit, such as 10s, 2m or 500ms`,
		"-s a -d b --packets 0":                        `bad number of packets "0": give a whole number above 0`,
		"-s a -d b --packets many":                     `bad number of packets "many": give a whole number above 0`,
		"-s a -d b -o yaml":                            `unknown output format "yaml": use one of text, json, wide`,
		"-s a -d b --backend kprobe":                   "the kprobe backend is not in this version: use one of auto, fentry, tracepoint",
		"-s a -d b --backend xdp":                      `unknown backend "xdp": use one of auto, fentry, tracepoint`,
		"-s a -d b extra":                              `unexpected argument "extra": a command to run comes after --, an end after --src or --dst`,
		"10.0.0.1 10.0.0.2":                            `unexpected argument "10.0.0.1": a command to run comes after --, an end after --src or --dst`,
		"-s a -d b --":                                 "no command after --: say what to run, as in -- ping -c 3 10.244.1.6",
		"-s":                                           "--src needs a value: see pathtrace --help",
		"--scr a":                                      "unknown flag --scr: did you mean --src?",
		"--frobnicate":                                 "unknown flag --frobnicate: see pathtrace --help",
		"-Z":                                           "unknown flag -Z: see pathtrace --help",
		"-s a -d b --drops-only=maybe":                 `--drops-only takes no value such as "maybe": give it alone`,
		"read":                                         "no file to read: give one that --write wrote, or - for standard input",
		"read a b":                                     `unexpected argument "b": read takes one file`,
		"read --src a x":                               "--src is for a trace: read shows what is in the file",
		"read -w a x":                                  "--write is for a trace: read shows what is in the file",
		"read -o yaml x":                               `unknown output format "yaml": use one of text, json, wide`,
		"read /nonexistent":                            "/nonexistent: no such file or directory: give a file that --write wrote",
		"read /etc/passwd":                             "/etc/passwd: this is no pcapng file: read wants what -w wrote",
		"read /dev/null":                               "/dev/null: this file is empty or no pcapng file",
		"-s a -d b --probe":                            "--probe needs a value: see pathtrace --help",
		"-s a -d b --probe tcp":                        `bad probe "tcp": write tcp: and a port from 1 to 65535, as in tcp:80`,
		"-s a -d b --probe http:80":                    `unknown probe "http:80": use icmp, tcp:PORT or udp:PORT`,
		"-s a -d b --probe icmp -- ls":                 "--probe and -- COMMAND are both given: take one of them as the reproduction",
		"-s a -d b --probe icmp --proto tcp":           "--probe icmp would not be seen with --proto tcp: leave one of them out",
		"-s a -d b --probe tcp:80 -p 81":               "--probe tcp:80 would not be seen with --port 81: leave one of them out",
		"-s a -d b -n a/b":                             `bad namespace "a/b": give its name alone, such as kube-system`,
		"-s pod:a -d a":                                "--src and --dst are both pod:a: name two different ends",
		"doctor now":                                   `unexpected argument "now": doctor looks at the whole node`,
		"doctor --src a":                               "--src is for a trace: doctor looks at the whole node",
		"doctor -o wide":                               "doctor prints text or json: use -o json for everything",
		"doctor -o yaml":                               `unknown output format "yaml": use one of text, json, wide`,
		"doctor --netns /nonexistent":                  "--netns /nonexistent: no such file or directory: give the path of a network namespace, such as /run/netns/NAME or /proc/PID/ns/net",
		"-s a -d b --write-all":                        "--write-all is for a capture: say with -w FILE where it goes",
		"-s a -d b --snaplen 96":                       "--snaplen is for a capture: say with -w FILE where it goes",
		"-s a -d b -w x --snaplen 0":                   `bad --snaplen "0": give bytes of each packet, from 1 to 65535`,
		"-s a -d b -w x --snaplen 65536":               `bad --snaplen "65536": give bytes of each packet, from 1 to 65535`,
		"-s a -d b -w - -o json":                       "-w - and -o json both want standard output: write the capture to a file, and pathtrace read -o json gives the rest",
		"-s a -d b -w":                                 "--write needs a value: see pathtrace --help",
		"doctor -w x":                                  "--write is for a trace: doctor looks at the whole node",
		"-s 10.0.0.1 -d 10.0.0.2 -w /tmp":              "--write /tmp: this is neither a regular file nor a pipe: give another name, such as trace.pcapng",
		"-s 10.0.0.1 -d 10.0.0.2 -w /dev/null":         "--write /dev/null: this is neither a regular file nor a pipe: give another name, such as trace.pcapng",
		"-s 10.0.0.1 -d 10.0.0.2 -w /nonexistent/x":    "--write /nonexistent/x: no such file or directory: give a name in a folder that is there and can be written to",
		"-s a -d b --kubeconfig /nonexistent":          "--kubeconfig /nonexistent: no such file or directory: give the path of a kubeconfig file",
		"-s a -d b --cri-socket unix:///nonexistent":   "--cri-socket /nonexistent: no such file or directory: give the runtime's socket, such as /run/containerd/containerd.sock",
		"-s a -d b --cni-cache /nonexistent":           "--cni-cache /nonexistent: no such file or directory: give the folder with libcni's results, such as /var/lib/cni/results",
		"-s a -d b --host-root /nonexistent":           "--host-root /nonexistent: no such file or directory: give the folder where the node's /proc, /run and /var are mounted",
		"-s 10.0.0.1 -d 10.0.0.2 --netns /nonexistent": "--netns /nonexistent: no such file or directory: give the path of a network namespace, such as /run/netns/NAME or /proc/PID/ns/net",
		"-s 10.0.0.1 -d 10.0.0.2 --ready-file /nonexistent/r": "--ready-file /nonexistent/r: its folder does not exist: create the folder first",
		"-s 10.0.0.1 -d 10.0.0.2 --ready-file /etc/passwd":    "--ready-file /etc/passwd: there is something else of this name: remove it or use another name",
		"-s 10.0.0.1 -d 10.0.0.2 --ready-file /tmp":           "--ready-file /tmp: there is something else of this name: remove it or use another name",
		"-s 10.0.0.1 -d 10.0.0.2 -- no-such-command-here":     `command "no-such-command-here" is not found in PATH: check its name, or give its path`,
		"-s 10.0.0.1 -d 10.0.0.2 -- /nonexistent/x":           `command "/nonexistent/x" does not exist: check its path`,
		"-s 10.0.0.1 -d 10.0.0.2 -- /etc/passwd":              `command "/etc/passwd" is not an executable file: chmod +x it, or name its interpreter before it`,
		"-s 10.0.0.1 -d 10.0.0.2 -- /etc":                     `command "/etc" is not an executable file: chmod +x it, or name its interpreter before it`,
	}
}

// checkedLater are complaints that need more than the command line.
func checkedLater(want string) bool {
	return want == "" || strings.HasPrefix(want, "command ") || strings.HasPrefix(want, "/") ||
		slices.ContainsFunc([]string{"netns", "ready-file", "kubeconfig", "cri-socket", "cni-cache", "host-root", "write"}, func(flag string) bool {
			return strings.HasPrefix(want, "--"+flag+" /")
		})
}

func TestRefused(t *testing.T) {
	for args, want := range badInputs() {
		_, err := parseArgs(strings.Fields(args))
		switch {
		case checkedLater(want) && err != nil:
			t.Errorf("%s: %v", args, err)
		case checkedLater(want):
		case err == nil:
			t.Errorf("%s: accepted", args)
		case err.Error() != want:
			t.Errorf("%s:\n got %s\nwant %s", args, err, want)
		}
	}
}

func TestEmptyValuesAreRefused(t *testing.T) {
	for _, flag := range []string{"src", "dst", "port", "proto", "duration", "packets", "output", "backend", "netns", "ready-file", "namespace", "cni-cache", "cri-socket", "kubeconfig", "host-root", "probe", "write", "snaplen"} {
		args := []string{"--" + flag, " "}
		if flag != "src" {
			args = append(args, "--src", "a")
		}
		if flag != "dst" {
			args = append(args, "--dst", "b")
		}
		_, err := parseArgs(args)
		if want := "--" + flag + " is empty: give it a value or leave it out"; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", flag, err, want)
		}
	}
}

// The help fits a screen and names every flag of this version.
func TestHelp(t *testing.T) {
	help := helpText()
	lines := strings.Split(strings.TrimSuffix(help, "\n"), "\n")
	if len(lines) > 36 { // a screen of 40 lines, with the prompt before and after
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	notYet := map[string]bool{"verbose": true} // shown as -v
	newRaw().set.VisitAll(func(f *pflag.Flag) {
		if strings.Contains(help, "--"+f.Name) == notYet[f.Name] {
			t.Errorf("--%s in help: %t", f.Name, !notYet[f.Name])
		}
	})
	for _, want := range append(protocols(), backends()...) {
		if !strings.Contains(help, want) {
			t.Errorf("%s is not in the help", want)
		}
	}
	if n := strings.Count(help, "\n  pathtrace -s "); n != 3 {
		t.Errorf("%d examples, want 3", n)
	}
}

func TestPrivileges(t *testing.T) {
	const sysAdmin, bpf, perfmon, netAdmin = 1 << 21, 1 << 39, 1 << 38, 1 << 12
	for name, tc := range map[string]struct {
		held uint64
		want string // missing
	}{
		"root":         {^uint64(0), ""},
		"the two":      {sysAdmin | netAdmin, ""},
		"none":         {0, "(CAP_SYS_ADMIN, CAP_NET_ADMIN missing)"},
		"no sys_admin": {bpf | perfmon | netAdmin, "(CAP_SYS_ADMIN missing)"},
		"no net_admin": {sysAdmin, "(CAP_NET_ADMIN missing)"},
	} {
		err := missingPrivileges(tc.held)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
