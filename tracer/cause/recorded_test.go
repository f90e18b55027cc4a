// SPDX-License-Identifier: Apache-2.0

package cause

// This file holds a node's state as it was recorded from a real one
// (record_test.go), and gives it again as a State.

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/program"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// recorded is the state of a node at one moment.
type recorded struct {
	NodeInode uint32
	Strangers map[uint32]bool           `json:"-"` // places that are no part of it
	Places    map[uint32]*recordedPlace // by inode; the node's own and its pods'
}

type recordedPlace struct {
	Links  []node.Link  `json:",omitempty"`
	Routes []node.Route `json:",omitempty"`
	// RouteRules: nil for those that a namespace begins with.
	RouteRules  []node.PolicyRule         `json:",omitempty"`
	Neighbors   []node.Neighbor           `json:",omitempty"`
	Ports       []node.BridgePort         `json:",omitempty"`
	Sockets     []node.Socket             `json:",omitempty"`
	Queues      []node.PacketQueue        `json:",omitempty"`
	Qdiscs      []node.Qdisc              `json:",omitempty"`
	IPsec       node.IPsec                `json:",omitzero"`
	WireGuard   []node.WireGuard          `json:",omitempty"`
	Sysctls     map[string]string         `json:",omitempty"`
	Rules       *RuleSets                 `json:",omitempty"`
	Proc        map[string]string         `json:",omitempty"` // below /proc/net
	Programs    map[int][]program.Program `json:",omitempty"` // by interface
	OverSockets map[string]SocketPrograms `json:",omitempty"` // by side
	// Connections and Stats are not recorded: made by hand.
	Connections []node.Connection     `json:"-"`
	Stats       node.ConntrackStats   `json:"-"`
	Balanced    madeBalancer          `json:"-"`
	Sets        map[string][]string   `json:"-"` // ipsets and their elements
	TunOwners   map[string][]TunOwner `json:"-"` // by the device's name
	// Learned are ways beside the tables, by destination.
	Learned map[netip.Addr]node.UsedRoute `json:"-"`
	UDP     []node.Socket                 `json:"-"`
	// Datagrams are UDP's counters, one reading after the other; the last one stays.
	Datagrams []node.DatagramStats `json:"-"`
	// Listening are listeners by protocol, made by hand; nil: those of Sockets, as proc
	// tells them.
	Listening map[string][]node.Listener `json:"-"`
}

func readRecorded(path string) (*recorded, error) {
	raw, err := readGzip(path)
	if err != nil {
		return nil, err
	}
	r := new(recorded)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// readGzip reads a compressed file.
func readGzip(path string) ([]byte, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	unpack, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return io.ReadAll(unpack)
}

func (r *recorded) place(netns uint32) (*recordedPlace, error) {
	if p := r.Places[netns]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("netns %d: not recorded", netns)
}

// Changed implements State: what was recorded stays so.
func (r *recorded) Changed(*model.NodeEvent) {}

// Node implements State.
func (r *recorded) Node() uint32 { return r.NodeInode }

// Members implements State.
func (r *recorded) Members() []uint32 {
	var all []uint32
	for inode := range r.Places {
		if inode != r.NodeInode && !r.Strangers[inode] {
			all = append(all, inode)
		}
	}
	slices.SortFunc(all, cmp.Compare[uint32])
	return all
}

// Links implements State.
func (r *recorded) Links(netns uint32) ([]node.Link, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Links, nil
}

// Routes implements State.
func (r *recorded) Routes(netns uint32) ([]node.Route, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Routes, nil
}

// RouteRules implements State.
func (r *recorded) RouteRules(netns uint32) ([]node.PolicyRule, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	if p.RouteRules == nil {
		return node.DefaultRules(), nil
	}
	return p.RouteRules, nil
}

// Neighbors implements State.
func (r *recorded) Neighbors(netns uint32) ([]node.Neighbor, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Neighbors, nil
}

// BridgePorts implements State.
func (r *recorded) BridgePorts(netns uint32) ([]node.BridgePort, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Ports, nil
}

// Sockets implements State.
func (r *recorded) Sockets(netns uint32) ([]node.Socket, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Sockets, nil
}

// Others implements State.
func (r *recorded) Others() []uint32 { return slices.Sorted(maps.Keys(r.Strangers)) }

// Listeners implements State.
func (r *recorded) Listeners(netns uint32, proto string) (all []node.Listener, err error) {
	p, err := r.place(netns)
	if err != nil || p.Listening != nil {
		if p != nil {
			all = p.Listening[proto]
		}
		return all, err
	}
	for _, s := range p.Sockets {
		if proto == "tcp" && s.State == node.TCPListen {
			all = append(all, node.Listener{Local: s.Local, Inode: s.Inode})
		}
	}
	return all, nil
}

// madeOwner is the process that has every socket that somebody made with an inode.
var madeOwner = program.Holder{PID: 812, Comm: "server"}

// TunOwners implements State.
func (r *recorded) TunOwners(netns uint32, name string) []TunOwner {
	if p, err := r.place(netns); err == nil {
		return p.TunOwners[name]
	}
	return nil
}

// SocketOwner implements State.
func (r *recorded) SocketOwner(inode uint64) (program.Holder, bool) { return madeOwner, inode != 0 }

// PacketQueues implements State.
func (r *recorded) PacketQueues(netns uint32) ([]node.PacketQueue, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Queues, nil
}

// Proc implements State.
func (r *recorded) Proc(netns uint32, name string) (string, error) {
	p, err := r.place(netns)
	if err != nil {
		return "", err
	}
	text, ok := p.Proc[name]
	if !ok {
		return "", fmt.Errorf("/proc/net/%s: %w", name, fs.ErrNotExist)
	}
	return text, nil
}

// Programs implements State.
func (r *recorded) Programs(netns uint32, ifindex int) ([]program.Program, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Programs[ifindex], nil
}

// SocketPrograms implements State.
func (r *recorded) SocketPrograms(netns uint32, s SocketAt) (SocketPrograms, error) {
	p, err := r.place(netns)
	if err != nil {
		return SocketPrograms{}, err
	}
	return p.OverSockets[s.Side], nil
}

// Qdiscs implements State.
func (r *recorded) Qdiscs(netns uint32) ([]node.Qdisc, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Qdiscs, nil
}

// IPsec implements State.
func (r *recorded) IPsec(netns uint32) (node.IPsec, error) {
	p, err := r.place(netns)
	if err != nil {
		return node.IPsec{}, err
	}
	return p.IPsec, nil
}

// WireGuard implements State.
func (r *recorded) WireGuard(netns uint32) ([]node.WireGuard, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.WireGuard, nil
}

// Sysctl implements State.
func (r *recorded) Sysctl(netns uint32, name string) (string, error) {
	p, err := r.place(netns)
	if err != nil {
		return "", err
	}
	value, ok := p.Sysctls[name]
	if !ok {
		return "", fmt.Errorf("sysctl net/%s: %w", name, fs.ErrNotExist)
	}
	return value, nil
}

// Rules implements State.
func (r *recorded) Rules(netns uint32) (RuleSets, error) {
	p, err := r.place(netns)
	if err != nil {
		return RuleSets{}, err
	}
	if p.Rules == nil {
		return RuleSets{}, fmt.Errorf("netns %d: rules were not recorded", netns)
	}
	return *p.Rules, nil
}

// Connection implements State.
func (r *recorded) Connection(netns uint32, f node.Flow) (node.Connection, bool, error) {
	p, err := r.place(netns)
	if err != nil {
		return node.Connection{}, false, err
	}
	for _, c := range p.Connections {
		if c.Orig == f || c.Reply == f {
			return c, true, nil
		}
	}
	return node.Connection{}, false, nil
}

// UsedRoute implements State.
func (r *recorded) UsedRoute(netns uint32, q node.RouteQuestion) (node.UsedRoute, bool, error) {
	p, err := r.place(netns)
	if err != nil {
		return node.UsedRoute{}, false, err
	}
	used, ok := p.Learned[q.Dst]
	return used, ok, nil
}

// ConnectionInZone implements State.
func (r *recorded) ConnectionInZone(netns uint32, f node.Flow, zone uint16) (node.Connection, bool, error) {
	p, err := r.place(netns)
	if err != nil {
		return node.Connection{}, false, err
	}
	for _, c := range p.Connections {
		if c.Orig == f && c.Zone+c.ZoneOrig == zone || c.Reply == f && c.Zone+c.ZoneReply == zone {
			return c, true, nil
		}
	}
	return node.Connection{}, false, nil
}

// ConntrackStats implements State.
func (r *recorded) ConntrackStats(netns uint32) (node.ConntrackStats, error) {
	p, err := r.place(netns)
	if err != nil {
		return node.ConntrackStats{}, err
	}
	return p.Stats, nil
}

// UDPSockets implements State.
func (r *recorded) UDPSockets(netns uint32) ([]node.Socket, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.UDP, nil
}

// Datagrams implements State.
func (r *recorded) Datagrams(netns uint32, _ bool) (s node.DatagramStats, err error) {
	p, err := r.place(netns)
	if err != nil {
		return s, err
	}
	if len(p.Datagrams) > 0 {
		s = p.Datagrams[0]
	}
	if len(p.Datagrams) > 1 {
		p.Datagrams = p.Datagrams[1:]
	}
	return s, nil
}

// MarshalJSON records rules as a list.
func (r Rules) MarshalJSON() ([]byte, error) { return json.Marshal(slices.Collect(r.All())) }

// UnmarshalJSON gives rules that were recorded.
func (r *Rules) UnmarshalJSON(raw []byte) error {
	var all []meaning.Rule
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	*r = Rules(slices.Values(all))
	return nil
}

// sysctls are those recorded: of the namespace, and of each interface (%s).
var sysctls = []string{
	"ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/all/rp_filter", "ipv4/conf/all/forwarding",
	"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables",
	"netfilter/nf_conntrack_count", "netfilter/nf_conntrack_max",
	"ipv4/conf/%s/rp_filter", "ipv4/conf/%s/forwarding", "ipv4/conf/%s/proxy_arp", "ipv4/conf/%s/arp_ignore",
	"ipv6/conf/%s/forwarding", "ipv6/conf/%s/proxy_ndp", "ipv6/conf/%s/disable_ipv6",
	"ipv4/conf/all/proxy_arp", "ipv4/conf/all/arp_ignore", "ipv4/conf/all/arp_filter", "ipv4/conf/%s/arp_filter",
	"ipv4/conf/%s/proxy_arp_pvlan",
}

// capture records all of a State.
func capture(s State) (*recorded, error) {
	r := &recorded{NodeInode: s.Node(), Places: map[uint32]*recordedPlace{}}
	for _, netns := range append(s.Members(), s.Node()) {
		p := &recordedPlace{Sysctls: map[string]string{}}
		var err error
		if p.Links, err = s.Links(netns); err != nil {
			return nil, err
		}
		if p.Routes, err = s.Routes(netns); err != nil {
			return nil, err
		}
		if p.RouteRules, err = s.RouteRules(netns); err != nil {
			return nil, err
		}
		if p.Neighbors, err = s.Neighbors(netns); err != nil {
			return nil, err
		}
		if p.Ports, err = s.BridgePorts(netns); err != nil {
			return nil, err
		}
		if p.Sockets, err = s.Sockets(netns); err != nil {
			return nil, err
		}
		if p.Queues, err = s.PacketQueues(netns); err != nil {
			return nil, err
		}
		rules, err := s.Rules(netns)
		if err != nil {
			return nil, err
		}
		p.Rules = &rules
		for _, name := range sysctls {
			if !strings.Contains(name, "%s") {
				p.sysctl(s, netns, name)
				continue
			}
			for _, l := range p.Links {
				p.sysctl(s, netns, fmt.Sprintf(name, l.Name))
			}
		}
		r.Places[netns] = p
	}
	return r, nil
}

// sysctl records a value; one that does not exist is left out.
func (p *recordedPlace) sysctl(s State, netns uint32, name string) {
	if value, err := s.Sysctl(netns, name); err == nil {
		p.Sysctls[name] = value
	}
}

// madeBalancer is what IPVS balances in a place.
type madeBalancer struct {
	services    []node.VirtualService
	servers     map[string][]node.RealServer // by the service's address
	connections []node.BalancedConnection
	unread      error // they cannot be looked through
	unlisted    error // real servers cannot be read
}

// VirtualServices implements State.
func (r *recorded) VirtualServices(netns uint32) ([]node.VirtualService, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Balanced.services, nil
}

// RealServers implements State.
func (r *recorded) RealServers(netns uint32, s node.VirtualService) ([]node.RealServer, error) {
	p, err := r.place(netns)
	if err != nil {
		return nil, err
	}
	return p.Balanced.servers[s.Addr.String()], p.Balanced.unlisted
}

// BalancedConnection implements State.
func (r *recorded) BalancedConnection(netns uint32, proto string, client, virtual netip.AddrPort) (node.BalancedConnection, bool, error) {
	p, err := r.place(netns)
	if err != nil {
		return node.BalancedConnection{}, false, err
	}
	if p.Balanced.unread != nil {
		return node.BalancedConnection{}, false, p.Balanced.unread
	}
	for _, c := range p.Balanced.connections {
		if c.Proto == proto && c.Client == client && c.Virtual == virtual {
			return c, true, nil
		}
	}
	return node.BalancedConnection{}, false, nil
}
