// SPDX-License-Identifier: Apache-2.0

package program

import "strings"

// Dataplane is one whose programs are known by their names.
type Dataplane struct {
	Name  string // Cilium, Calico
	Drops string // the command that tells why its programs drop packets, and where it is run
}

// dataplanes are those, by what the names of their programs begin with; the kernel keeps
// 15 bytes of a name. Cilium's are cil_from_container, cil_to_netdev, cil_sock4_connect
// and so on (bpf/bpf_lxc.c, bpf_host.c, bpf_overlay.c, bpf_sock.c, since 1.12); Calico's
// cali_tc_preamble, cali_xdp_preamble and calico_connect_v4 (felix/bpf-gpl, 3.34).
func dataplanes() map[string]Dataplane {
	calico := Dataplane{"Calico", "calico-node -bpf counters dump, in the agent's pod"}
	return map[string]Dataplane{"cil_": {"Cilium", "cilium-dbg monitor -t drop, in the agent's pod"}, "cali_": calico, "calico_": calico}
}

// Dataplane is the dataplane whose programs have such names; ok is false if none is
// known: a name proves nothing, and is told as what it is.
func (p *Program) Dataplane() (d Dataplane, ok bool) {
	for prefix, d := range dataplanes() {
		if strings.HasPrefix(p.Name, prefix) {
			return d, true
		}
	}
	return Dataplane{}, false
}
