// SPDX-License-Identifier: Apache-2.0

// help.go holds the one screen of help. It names the flags of flags.go; a test
// sees to it that none is forgotten and that it fits a terminal.

package main

func helpText() string {
	return `pathtrace shows where, by which rule and why a packet dies on this node.
It changes nothing on the node. Replies are followed without asking.

  pathtrace --src ENDPOINT --dst ENDPOINT [flags] [-- COMMAND [ARG...]]

  pathtrace -s 10.244.1.5 -d 10.244.1.6 -p 80 --duration 10s
  pathtrace -s cali1a2b3c4d5e6 -d any --drops-only
  pathtrace -s node -d 10.244.1.6 -o json -- curl -m 2 http://10.244.1.6/

ENDPOINT: an address, a CIDR, an interface of the node (cali..., veth...),
node (the node's own addresses) or any. ip: or if: in front settles which.

  -s, --src, -d, --dst      the two ends
  -p, --port N              only this port of the destination
      --proto P             only tcp, udp, icmp or sctp
      --duration D          stop after 10s, 2m, ...
      --packets N           stop after N packets whose fate is known
      -- COMMAND            run COMMAND, trace while it runs, stop after it
  -o, --output FORMAT       text (default), wide (every hop), json (JSON Lines)
      --drops-only          leave out packets that fared well
      --backend B           auto (default), fentry or tracepoint
      --netns PATH          the node's network namespace, if not this one
      --ready-file FILE     create FILE when nothing can be missed any more
      --no-color            plain text on terminals too
  -v                        say what could not be watched, and why
      --version, -h, --help

Exit: 0 all fine here, 2 a packet died here, 3 no packet seen, 1 error.
`
}
