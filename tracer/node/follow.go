// SPDX-License-Identifier: Apache-2.0

package node

// This file tells while a trace runs that pods come and go: links of the node
// that appear or vanish, and namespaces that have ended.

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Reachable tells whether a namespace can still be opened the way it was found;
// Refresh may find another. It opens nothing.
func (n *Namespaces) Reachable(inode uint32) bool {
	if inode == n.node.Inode {
		return true
	}
	ns, ok := n.Lookup(inode)
	if !ok {
		return false
	}
	for _, path := range ns.Paths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && uint32(st.Ino) == inode {
			return true
		}
	}
	return false
}

// linkBuffer is the socket's receive buffer: some 500 notices.
const linkBuffer = 1 << 20

// resubscribeAfter is waited before a subscription that broke is renewed.
const resubscribeAfter = time.Second

// LinkChanges gives a channel that gets a value when a link of the node appears
// or vanishes, until ctx is done; several at once are one. What else changes
// about links is not told. Notices that were lost count as a change.
func (n *Namespaces) LinkChanges(ctx context.Context) (<-chan struct{}, error) {
	updates, err := n.subscribe(ctx)
	if err != nil {
		return nil, err
	}
	links, err := n.Links(n.node.Inode)
	if err != nil {
		return nil, err
	}
	known := make(map[int32]bool, len(links))
	for _, l := range links {
		known[int32(l.Index)] = true
	}
	changes := make(chan struct{}, 1)
	go func() {
		for ctx.Err() == nil {
			for u := range updates {
				if cameOrWent(known, u) {
					ring(changes)
				}
			}
			if !wait(ctx, resubscribeAfter) {
				return
			}
			ring(changes)
			if updates, err = n.subscribe(ctx); err != nil {
				updates = closed() // tried again
			}
		}
	}()
	return changes, nil
}

// subscribe listens to the node's links. The channel is closed when that ends.
func (n *Namespaces) subscribe(ctx context.Context) (<-chan netlink.LinkUpdate, error) {
	updates := make(chan netlink.LinkUpdate)
	err := n.Do(n.node.Inode, func() error {
		return netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{ReceiveBufferSize: linkBuffer})
	})
	if err != nil {
		return nil, fmt.Errorf("listen to the node's links: %w", err)
	}
	return updates, nil
}

func closed() <-chan netlink.LinkUpdate {
	c := make(chan netlink.LinkUpdate)
	close(c)
	return c
}

// cameOrWent keeps the books of the indexes there are.
func cameOrWent(known map[int32]bool, u netlink.LinkUpdate) bool {
	if u.Family != unix.AF_UNSPEC {
		return false // a bridge's view of its port
	}
	was := known[u.Index]
	switch u.Header.Type {
	case unix.RTM_NEWLINK:
		known[u.Index] = true
		return !was
	case unix.RTM_DELLINK:
		delete(known, u.Index)
		return was
	}
	return false
}

// ring leaves word that something changed, if there is none already.
func ring(changes chan<- struct{}) {
	select {
	case changes <- struct{}{}:
	default:
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
