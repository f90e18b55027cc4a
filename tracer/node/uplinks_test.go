// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
)

func TestClassify(t *testing.T) {
	global := func(l Link, prefixes ...string) Link {
		for _, p := range prefixes {
			l.global = append(l.global, netip.MustParsePrefix(p))
		}
		return l
	}
	for _, c := range []struct {
		name     string
		links    []Link
		defaults []int
		want     []string
	}{
		{
			name: "calico on a machine",
			links: []Link{
				{Index: 1, Name: "lo", Loopback: true},
				{Index: 2, Name: "ens3"},
				{Index: 3, Name: "cali1", Kind: "veth"},
				{Index: 4, Name: "vxlan.calico", Kind: "vxlan"},
				{Index: 5, Name: "tunl0", Kind: "ipip"},
				{Index: 6, Name: "wireguard.cali", Kind: "wireguard"},
				global(Link{Index: 7, Name: "nodelocaldns", Kind: "dummy"}, "169.254.20.10/32"),
			},
			defaults: []int{2},
			want:     []string{"ens3"},
		},
		{
			name: "flannel beside docker",
			links: []Link{
				{Index: 2, Name: "eno1"},
				global(Link{Index: 3, Name: "docker0", Kind: "bridge"}, "172.17.0.1/16"),
				global(Link{Index: 4, Name: "cni0", Kind: "bridge"}, "10.244.0.1/24"),
				{Index: 5, Name: "veth1", Kind: "veth", Master: 4},
				global(Link{Index: 6, Name: "flannel.1", Kind: "vxlan"}, "10.244.0.0/32"),
			},
			defaults: []int{2},
			want:     []string{"eno1"},
		},
		{
			name: "node that is a container",
			links: []Link{
				global(Link{Index: 2, Name: "eth0", Kind: "veth"}, "172.18.0.3/16"),
				global(Link{Index: 3, Name: "veth9", Kind: "veth"}, "10.244.0.1/32"), // ptp plugin: the gateway on each veth
				global(Link{Index: 4, Name: "cali2", Kind: "veth"}, "10.0.0.1/24"),
				global(Link{Index: 5, Name: "veth6", Kind: "veth"}, "fd00::1/128"),
				global(Link{Index: 6, Name: "veth7", Kind: "veth"}, "fd00:5::1/64"),
			},
			defaults: []int{2},
			want:     []string{"eth0", "veth7"},
		},
		{
			name:     "veth with the default route but no address of its own",
			links:    []Link{{Index: 2, Name: "eth0", Kind: "veth"}, {Index: 3, Name: "cali1", Kind: "veth"}},
			defaults: []int{2, 3},
			want:     []string{"eth0"},
		},
		{
			name: "bond and vlan",
			links: []Link{
				{Index: 2, Name: "ens1", Master: 4},
				{Index: 3, Name: "ens2", Master: 4},
				{Index: 4, Name: "bond0", Kind: "bond"},
				{Index: 5, Name: "bond0.100", Kind: "vlan"},
			},
			defaults: []int{5},
			want:     []string{"bond0", "bond0.100", "ens1", "ens2"},
		},
		{
			name:     "address on a bridge over the network card: the card is the way off",
			links:    []Link{{Index: 2, Name: "ens3", Master: 3}, {Index: 3, Name: "br0", Kind: "bridge"}},
			defaults: []int{3},
			want:     []string{"ens3"},
		},
		{
			name:     "default route over a bridge with pods, and over one without ports",
			links:    []Link{{Index: 2, Name: "veth1", Kind: "veth", Master: 3}, {Index: 3, Name: "br0", Kind: "bridge"}, {Index: 4, Name: "br1", Kind: "bridge"}},
			defaults: []int{3, 4},
			want:     []string{"br1"},
		},
		{
			name:     "default route over a tunnel and over a tun device",
			links:    []Link{{Index: 2, Name: "wg0", Kind: "wireguard"}, {Index: 3, Name: "tun0", Kind: "tun"}, {Index: 4, Name: "tap0", Kind: "tun"}},
			defaults: []int{2, 3},
			want:     []string{"tun0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			defaults := map[int]bool{}
			for _, d := range c.defaults {
				defaults[d] = true
			}
			got := slices.Sorted(maps.Values(classify(c.links, defaults)))
			if !slices.Equal(got, c.want) {
				t.Errorf("uplinks %v, want %v", got, c.want)
			}
		})
	}
}
