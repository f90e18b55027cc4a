// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file resolves an end again while a trace runs: a pod that was restarted
// has a new namespace, a new interface, and mostly new addresses.

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Again resolves an end once more and says in one line what changed since, ""
// for nothing. An end that is gone is an error that wraps ErrUnknown. Ends that
// are no names (addresses, CIDRs, node, any) never change.
func (r *Resolver) Again(ctx context.Context, old Endpoint) (now Endpoint, change string, err error) {
	if old.Kind != KindPod && old.Kind != KindService && old.Kind != KindInterface {
		return old, "", nil
	}
	if now, err = r.Resolve(ctx, old.Given); err != nil {
		if errors.Is(err, ErrUnknown) {
			err = fmt.Errorf("%s is gone: %w", title(old), err)
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
	case old.Kind == KindService:
		return fmt.Sprintf("%s changed: now %s (was %s)", title(now), now.Addresses, old.Addresses)
	case old.Kind == KindPod && !samePlace:
		return fmt.Sprintf("%s restarted: now %s (was %s)", title(now), whereabouts(now), whereabouts(old))
	}
	return fmt.Sprintf("%s changed: now %s (was %s)", title(now), whereabouts(now), whereabouts(old))
}

// title is what people call an end.
func title(e Endpoint) string {
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
