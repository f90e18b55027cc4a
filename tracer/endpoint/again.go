// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file resolves an end again while a trace runs: a pod that was restarted
// has a new namespace, a new interface, and mostly new addresses.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Again resolves an end once more and says in one line what changed since, ""
// for nothing. An end that is gone is an error that wraps ErrUnknown. A CIDR, node
// and any never change, an address may live elsewhere.
func (r *Resolver) Again(ctx context.Context, old Endpoint) (now Endpoint, change string, err error) {
	if old.Kind == KindCIDR || old.Kind == KindNode || old.Kind == KindAny {
		return old, "", nil
	}
	if now, err = r.Resolve(ctx, old.Given); err != nil {
		if errors.Is(err, ErrUnknown) {
			err = fmt.Errorf("%s is gone: %w", old.Title(), err)
		}
		return Endpoint{}, "", err
	}
	return now, changed(old, now), nil
}

// changed tells two states of one end apart. A new incarnation of a pod shows
// by its interface: the kernel hands a namespace's inode number out again as
// soon as it is free, and IPAM may do so with the address, but interface
// indexes count up.
func changed(old, now Endpoint) string {
	sameAddrs := slices.Equal(unique(slices.Clone(old.Prefixes)), unique(slices.Clone(now.Prefixes)))
	samePlace := old.Netns == now.Netns && old.HostIfIndex == now.HostIfIndex && old.Node == now.Node
	switch {
	case sameAddrs && samePlace:
		return ""
	case old.Kind == KindInterface && samePlace && subset(now.Prefixes, old.Prefixes):
		return "" // neighbours that were not heard of for a while
	case old.Kind == KindAddress && now.HostIfIndex == 0:
		return fmt.Sprintf("%s is behind no interface of this node now (was behind %s)", old.Given, old.Interface)
	case old.Kind == KindAddress && old.HostIfIndex == 0:
		return fmt.Sprintf("%s is behind %s now", old.Given, now.Interface)
	case old.Kind == KindAddress:
		return fmt.Sprintf("%s moved: now behind %s (was behind %s)", old.Given, now.Interface, old.Interface)
	case old.Kind == KindService:
		return fmt.Sprintf("%s changed: now %s (was %s)", now.Title(), now.Addresses, old.Addresses)
	case old.Kind == KindPod && !samePlace:
		return fmt.Sprintf("%s restarted: now %s (was %s)", now.Title(), whereabouts(now), whereabouts(old))
	}
	return fmt.Sprintf("%s changed: now %s (was %s)", now.Title(), whereabouts(now), whereabouts(old))
}

func subset(part, whole []netip.Prefix) bool {
	return !slices.ContainsFunc(part, func(p netip.Prefix) bool { return !slices.Contains(whole, p) })
}

// Title is what people call an end.
func (e Endpoint) Title() string {
	switch {
	case e.Kind == KindService:
		return serviceTitle(e.Namespace, e.Name)
	case e.Namespace != "":
		return e.Namespace + "/" + e.Name
	case e.Name != "":
		return e.Name
	}
	return e.Given
}

// whereabouts are an end's addresses and place.
func whereabouts(e Endpoint) string {
	where := e.Addresses.String()
	switch {
	case e.Node != "":
		where += " on node " + e.Node
	case e.Interface != "":
		where += " behind " + e.Interface
	}
	return where
}
