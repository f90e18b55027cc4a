// SPDX-License-Identifier: Apache-2.0

// The WireGuard tunnel between nodes.
//
// Felix (felix/wireguard) leaves the plain routes in table main and writes a table of
// its own, which a rule of a priority before main's takes for all that WireGuard has not
// sent itself:
//
//	99:  not from all fwmark 0x200000/0x200000 lookup 1
//	table 1:  192.168.104.0/26 dev wireguard.cali     the other node's pods
//	          throw 192.168.166.128/26                those of this one: as table main says
//
// flanneld (pkg/backend/wireguard) has one route for the whole pod network by
// flannel-wg; this node's own is more specific by cni0.

package cluster

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// WireGuard as Felix and flanneld set it up.
const (
	wireGuardPort = 51820
	// Felix' own table, its rule's priority (WireguardRoutingRulePriority), and the mark
	// of what WireGuard has sent: the first bit that the recorded rules leave. Before Felix
	// had a mark for what policies drop it was 0x100000.
	wireGuardTable    = 1
	wireGuardPriority = 99
	wireGuardMark     = 0x200000
)

// keys are those of the two nodes, by number minus one.
type keys [2]*ecdh.PrivateKey

// makeKeys makes a pair for each node.
func makeKeys() (k keys, err error) {
	for i := range k {
		if k[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return k, fmt.Errorf("make a WireGuard key: %w", err)
		}
	}
	return k, nil
}

// PublicKey is the WireGuard key of a node, as wg prints it; empty where the nodes are
// joined otherwise.
func (e *Env) PublicKey(number int) string {
	if key := e.keys[number-1]; key != nil {
		return base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())
	}
	return ""
}

// makeWireGuard makes the device and its peer.
func (e *Env) makeWireGuard(ctx context.Context, node *Node) error {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: node.Tunnel, MTU: e.Dataplane.MTU()}, LinkType: "wireguard"}
	if err := node.Netns.Link().LinkAdd(device); err != nil {
		return fmt.Errorf("add %s: %w", node.Tunnel, err)
	}
	set := []string{"wg", "set", node.Tunnel, "private-key", "/dev/stdin", "listen-port", strconv.Itoa(wireGuardPort)}
	if e.Dataplane.Kind() == Calico {
		set = append(set, "fwmark", fmt.Sprintf("%#x", wireGuardMark))
		rule := netlink.NewRule()
		rule.Priority, rule.Table, rule.Mark, rule.Invert = wireGuardPriority, wireGuardTable, wireGuardMark, true
		mask := uint32(wireGuardMark)
		rule.Mask, rule.Family = &mask, unix.AF_INET
		if err := node.Netns.Link().RuleAdd(rule); err != nil {
			return fmt.Errorf("add the rule for %s: %w", node.Tunnel, err)
		}
		if err := addBareRoute(Calico, node, e.facts(3-node.Number)); err != nil {
			return err
		}
	}
	private := base64.StdEncoding.EncodeToString(e.keys[node.Number-1].Bytes()) + "\n"
	if _, err := e.RunTool(ctx, node.Netns, private, set...); err != nil {
		return err
	}
	return e.SetWireGuardPeer(ctx, node, e.WireGuardAllowed(node)...)
}

// WireGuardAllowed are the addresses that a node takes from its peer, and sends it.
// Felix adds that of the peer's own tunnel interface.
func (e *Env) WireGuardAllowed(node *Node) []netip.Prefix {
	peer := e.facts(3 - node.Number)
	if e.Dataplane.Kind() == Calico {
		return []netip.Prefix{peer.podNet, netns.HostPrefix(peer.tunnelIP)}
	}
	return []netip.Prefix{peer.podNet}
}

// SetWireGuardPeer gives the node's peer these allowed IPs and its endpoint.
func (e *Env) SetWireGuardPeer(ctx context.Context, node *Node, allowed ...netip.Prefix) error {
	list := ""
	for _, p := range allowed {
		if list != "" {
			list += ","
		}
		list += p.String()
	}
	peer := 3 - node.Number
	_, err := e.RunTool(ctx, node.Netns, "", "wg", "set", node.Tunnel, "peer", e.PublicKey(peer), "allowed-ips", list,
		"endpoint", netip.AddrPortFrom(e.facts(peer).addr, wireGuardPort).String())
	return err
}

// addWireGuardRoutes leads to the other node's pods.
func (e *Env) addWireGuardRoutes(node *Node, peer facts) error {
	index, err := node.Netns.LinkIndex(node.Tunnel)
	if err != nil {
		return err
	}
	if e.Dataplane.Kind() == Flannel {
		return node.Netns.AddRoute(netlink.Route{LinkIndex: index, Dst: netns.IPNet(netip.MustParsePrefix(FlannelNet)), Scope: unix.RT_SCOPE_LINK})
	}
	for _, dst := range e.WireGuardAllowed(node) {
		r := netlink.Route{LinkIndex: index, Dst: netns.IPNet(dst), Scope: unix.RT_SCOPE_LINK, Table: wireGuardTable, Protocol: calicoProtocol}
		if err := node.Netns.AddRoute(r); err != nil {
			return err
		}
	}
	throw := netlink.Route{Dst: netns.IPNet(node.PodNet), Type: unix.RTN_THROW, Table: wireGuardTable, Protocol: calicoProtocol}
	if err := node.Netns.Link().RouteReplace(&throw); err != nil { // it stays when the device goes down
		return fmt.Errorf("add route throw %s in %s: %w", node.PodNet, node.Netns.Name, err)
	}
	return nil
}
