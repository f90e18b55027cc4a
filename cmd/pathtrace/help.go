// SPDX-License-Identifier: Apache-2.0

// help.go holds the one screen of help. It names the flags of flags.go; a test
// sees to it that none is forgotten and that it fits a terminal.

package main

import "strings"

func helpText() string {
	return `pathtrace shows where, by which rule and why a packet dies on this node.
It changes nothing on the node. Replies are followed without asking.

  pathtrace --src END --dst END [flags] [-- COMMAND [ARG...]]
  pathtrace doctor                  what this node lets us see; -o json too
  pathtrace read FILE               print a capture's trace again
  pathtrace man, completion SHELL   the manual; for bash, zsh or fish

` + exampleLines() + `
END: a pod (NAME, NAMESPACE/NAME), svc/NAME, an address, a CIDR, an interface
(cali..., veth...), node, any. pod:, svc:, ip:, if: in front settle it.

  -s, --src, -d, --dst END  the two ends
  -n, --namespace NAME      of names without one (default)
  -p, --port N, --proto P   only this port of the destination, tcp|udp|icmp|sctp
      --duration D          stop after 10s, 2m, ...
      --packets N           stop after N packets whose fate is known
      --sample N            follow N packets a second at most (auto), all: all
      --probe PROBE         send icmp, tcp:PORT or udp:PORT from the source pod
  -o, --output FORMAT       text (default), wide (every hop), json (JSON Lines)
      --drops-only          leave out packets that fared well
  -w, --write FILE.pcapng   annotated capture, for wireshark and for read
      --write-all           all hops of all packets, not only what died
      --snaplen N           so many bytes of each packet (256)
      --report FILE         write it as one HTML file too
      --backend B           auto (default), fentry or tracepoint
      --netns PATH          the node's network namespace, if not this one
      --host-root DIR       where the node's /proc, /run and /var are mounted
      --cni-cache, --cri-socket, --kubeconfig PATH    where names are looked up
      --ready-file FILE     create FILE when nothing can be missed any more
      --no-color, -v, --version, -h, --help
Exit: 0 all fine here, 2 a death or a fault here, 3 no packet seen, 1 error.
`
}

// exampleLines are the examples without what is said of them.
func exampleLines() string {
	var b strings.Builder
	for _, e := range examples() {
		b.WriteString("  " + e.Line + "\n")
	}
	return b.String()
}
