// SPDX-License-Identifier: Apache-2.0

// Package endpoint turns what the user names with --src and --dst into
// addresses, and says where on this node they live: in goes a word, out come
// address prefixes with the namespace and the host interface they belong to.
// It asks the node (package node), and for names what knows them there: the CNI
// cache, Calico's naming of interfaces, the container runtime, the API server
// (sources.go). Each is optional, and none is changed by being asked.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Kinds of an endpoint (model.End.Kind).
const (
	KindAddress   = "address"
	KindCIDR      = "cidr"
	KindInterface = "interface"
	KindNode      = "node"
	KindAny       = "any"
	KindPod       = "pod"
	KindService   = "service"
)

// Endpoint is one end of the flow, resolved.
type Endpoint struct {
	// End is what outputs print. Its Addresses are the Prefixes; Interface
	// and IfIndex are the host's side of the pod, or the node's own interface
	// that holds the address; Netns is where the address lives, 0 when it is
	// on another machine or in several places here.
	model.End

	Prefixes    []netip.Prefix // masked; a single address is a full-length prefix; empty for any
	Any         bool
	NetnsInodes []uint32 // namespaces of this node that own the addresses; empty: none known
	HostIfIndex uint32   // index of the pod's interface on the host; 0: no pod of this node, or several
	Node        string   // of a pod elsewhere: the other node's name; "" this node, or not known
	Service     *Service // of a service: what stands behind the addresses
}

// Errors that callers tell apart.
var (
	// ErrUnknown: the word names nothing that could be found.
	ErrUnknown = errors.New("unknown endpoint")
	// ErrSameEnds: source and destination cannot be told apart, or have
	// nothing in common.
	ErrSameEnds = errors.New("unusable pair of endpoints")
)

// works is what every refusal ends with.
const works = "what works: a pod, namespace/pod, svc/name, an address, a CIDR, an interface of this node (cali…, veth…), node, any"

// Resolve resolves one ENDPOINT of the command line: an IPv4 or IPv6 address, a
// CIDR, the name of an interface of this node, a pod as name or namespace/name,
// a service as svc/name or namespace/svc/name, node, or any; ip:, if:, pod: or
// svc: in front settles which. A bare word is an address if it parses, else an
// interface if there is one, else a pod. Errors are one line and wrap
// ErrUnknown when the word names nothing.
func (r *Resolver) Resolve(ctx context.Context, given string) (Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return Endpoint{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, err := r.resolve(ctx, strings.TrimSpace(given))
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: %w", given, err)
	}
	e.Given = given
	e.Addresses = e.Prefixes
	return e, nil
}

func (r *Resolver) resolve(ctx context.Context, word string) (Endpoint, error) {
	scheme, rest, ok := strings.Cut(word, ":")
	if ok {
		switch scheme {
		case "ip":
			return r.address(ctx, rest)
		case "if":
			return r.iface(ctx, rest)
		case "pod":
			return r.named(ctx, rest, KindPod)
		case "svc":
			return r.named(ctx, rest, KindService)
		}
	}
	switch word {
	case "":
		return Endpoint{}, fmt.Errorf("%w: it is empty: %s", ErrUnknown, works)
	case "any":
		return Endpoint{End: model.End{Kind: KindAny}, Any: true}, nil
	case "node":
		return r.node()
	}
	if looksLikeAddress(word) {
		return r.address(ctx, word)
	}
	return r.bare(ctx, word)
}

// looksLikeAddress tells words that can only be meant as an address or CIDR,
// so that a typing error in one is called that.
func looksLikeAddress(word string) bool {
	if _, err := netip.ParseAddr(word); err == nil {
		return true
	}
	addr, _, isCIDR := strings.Cut(word, "/")
	if _, err := netip.ParseAddr(addr); err == nil && isCIDR {
		return true
	}
	if strings.Contains(word, ":") {
		return !strings.Contains(word, "/") || strings.Contains(addr, ":")
	}
	return strings.Contains(addr, ".") && strings.Trim(addr, "0123456789.") == ""
}

// bare resolves a word that is no address: an interface if there is one, else
// a pod; with a slash in it, a pod or service.
func (r *Resolver) bare(ctx context.Context, word string) (Endpoint, error) {
	switch {
	case strings.HasPrefix(word, "svc/"), strings.Contains(word, "/svc/"):
		return r.named(ctx, word, KindService)
	case strings.Contains(word, "/"):
		return r.named(ctx, word, KindPod)
	}
	e, err := r.iface(ctx, word)
	if !errors.Is(err, errNoInterface) {
		return e, err
	}
	pod, podErr := r.named(ctx, word, KindPod)
	switch {
	case podErr == nil:
		return pod, nil
	case !errors.Is(podErr, ErrUnknown):
		return Endpoint{}, podErr
	case looksLikeInterface(word):
		return Endpoint{}, err
	}
	return Endpoint{}, fmt.Errorf("no interface of this node; %w; %s", podErr, works)
}

// named resolves a pod or service by its name.
func (r *Resolver) named(ctx context.Context, word, kind string) (Endpoint, error) {
	name, err := r.parseName(word, kind)
	if err != nil {
		return Endpoint{}, err
	}
	v, err := r.look(ctx)
	if err != nil {
		return Endpoint{}, err
	}
	if kind == KindService {
		return r.service(ctx, v, name)
	}
	return r.pod(ctx, v, name)
}

// parseName reads name, namespace/name, and for services svc/ before the name.
func (r *Resolver) parseName(word, kind string) (podName, error) {
	full := podName{namespace: r.opt.Namespace, name: word}
	if namespace, name, ok := strings.Cut(word, "/"); ok && !(kind == KindService && namespace == "svc") {
		full = podName{namespace, name}
	}
	if kind == KindService {
		full.name = strings.TrimPrefix(full.name, "svc/")
	}
	for _, part := range []struct{ what, word string }{{"namespace", full.namespace}, {kind, full.name}} {
		if !isObjectName(part.word) {
			return podName{}, fmt.Errorf("%w: no %s can be named %q: lower-case letters, digits, - and . only; %s", ErrUnknown, part.what, part.word, works)
		}
	}
	return full, nil
}

// isObjectName tells what Kubernetes takes as a name (RFC 1123 subdomain,
// k8s.io/apimachinery, IsDNS1123Subdomain).
func isObjectName(word string) bool {
	const alphanumeric = "abcdefghijklmnopqrstuvwxyz0123456789"
	if word == "" || len(word) > 253 || strings.Trim(word, alphanumeric+"-.") != "" {
		return false
	}
	return strings.ContainsRune(alphanumeric, rune(word[0])) && strings.ContainsRune(alphanumeric, rune(word[len(word)-1]))
}

// looksLikeInterface tells words that are meant as an interface's name.
func looksLikeInterface(word string) bool {
	for _, prefix := range []string{"cali", "veth", "eth", "en", "vxlan", "flannel", "cni", "tunl", "br", "docker", "bond", "wl", "lo"} {
		rest, ok := strings.CutPrefix(word, prefix)
		if ok && (rest == "" || strings.ContainsAny(rest, "0123456789") && !strings.Contains(rest, "-")) {
			return true
		}
	}
	return strings.HasPrefix(word, "cali") || strings.HasPrefix(word, "veth")
}

// address resolves an address or CIDR and looks where on the node it lives.
func (r *Resolver) address(ctx context.Context, word string) (Endpoint, error) {
	prefix, err := parsePrefix(word)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Prefixes: []netip.Prefix{prefix}}
	e.Kind, e.ResolvedBy = KindCIDR, "as given"
	if !prefix.IsSingleIP() {
		return e, nil
	}
	e.Kind = KindAddress
	view, err := r.look(ctx)
	if err != nil {
		return Endpoint{}, err
	}
	return e, view.locate(ctx, &e, prefix.Addr())
}

// parsePrefix reads an address or a CIDR. Host bits of a CIDR are dropped, as
// routing tables do.
func parsePrefix(word string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(word); err == nil {
		addr = addr.Unmap()
		switch {
		case addr.Zone() != "":
			return netip.Prefix{}, fmt.Errorf("%w: give the address without %%%s: packets carry no zone", ErrUnknown, addr.Zone())
		case addr.IsUnspecified():
			return netip.Prefix{}, fmt.Errorf("%w: no packet has this address: use any, or %s/0 for all of its family", ErrUnknown, addr)
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%w: neither an address nor a CIDR: write 10.0.0.1, 10.0.0.0/24, fd00::1 or fd00::/64", ErrUnknown)
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%w: write IPv4 networks as such, not mapped into IPv6", ErrUnknown)
	}
	return prefix.Masked(), nil
}

// node resolves to every address of global scope the node has, except parked
// service addresses.
func (r *Resolver) node() (Endpoint, error) {
	inode := r.ns.Node().Inode
	links, err := r.ns.Links(inode)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{End: model.End{Kind: KindNode, Netns: inode, ResolvedBy: "the node's interfaces"}, NetnsInodes: []uint32{inode}}
	for _, l := range links {
		if l.Name == serviceParking {
			continue
		}
		e.Prefixes = append(e.Prefixes, hosts(l.GlobalAddrs())...)
	}
	e.Prefixes = unique(e.Prefixes)
	if len(e.Prefixes) == 0 {
		return Endpoint{}, fmt.Errorf("%w: this namespace has no address: if the node lives in another one, name it with --netns", ErrUnknown)
	}
	return e, nil
}

// hosts turns addresses with a subnet around them into single addresses.
func hosts(prefixes []netip.Prefix) []netip.Prefix {
	single := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		single = append(single, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	return single
}

// unique sorts and drops repetitions.
func unique(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, comparePrefix)
	return slices.Compact(prefixes)
}

func comparePrefix(x, y netip.Prefix) int {
	if c := x.Addr().Compare(y.Addr()); c != 0 {
		return c
	}
	return x.Bits() - y.Bits()
}

// Check refuses pairs that no flow can run between or that cannot be told
// apart; the error is one line and wraps ErrSameEnds.
func Check(src, dst Endpoint) error {
	switch {
	case src.Any && dst.Any:
		return fmt.Errorf("%w: --src any and --dst any would be every packet: name at least one end", ErrSameEnds)
	case src.Any || dst.Any:
		return nil
	case slices.Equal(unique(slices.Clone(src.Prefixes)), unique(slices.Clone(dst.Prefixes))):
		return fmt.Errorf("%w: --src %s and --dst %s are the same: name the other end of the flow, or any", ErrSameEnds, src.Given, dst.Given)
	case src.HostIfIndex != 0 && src.HostIfIndex == dst.HostIfIndex:
		return fmt.Errorf("%w: --src %s and --dst %s are the same pod, behind %s: name the other end of the flow, or any", ErrSameEnds, src.Given, dst.Given, src.Interface)
	case !shareFamily(src.Prefixes, dst.Prefixes):
		return fmt.Errorf("%w: --src %s is %s and --dst %s is %s: no packet has both: name both ends in one family",
			ErrSameEnds, src.Given, families(src.Prefixes), dst.Given, families(dst.Prefixes))
	}
	return nil
}

func shareFamily(x, y []netip.Prefix) bool {
	return slices.ContainsFunc(x, func(p netip.Prefix) bool {
		return slices.ContainsFunc(y, func(q netip.Prefix) bool { return p.Addr().Is4() == q.Addr().Is4() })
	})
}

func families(prefixes []netip.Prefix) string {
	if len(prefixes) > 0 && prefixes[0].Addr().Is4() {
		return "IPv4"
	}
	return "IPv6"
}
