// SPDX-License-Identifier: Apache-2.0

// A stand-in for BIRD: a session over TCP port 179 between two nodes that brings
// node1 the route to node2's pods for as long as it lives. Of BGP it has what
// matters here, the keepalives and the hold time.

package fault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

const (
	bgpPort      = 179
	bgpKeepalive = 50 * time.Millisecond
	bgpHold      = 500 * time.Millisecond // without a word from the peer the session is over
	bgpRetry     = 300 * time.Millisecond // how long a connection is tried
	bgpWithin    = 10 * time.Second       // for a session to come or go
)

// bird is the session.
type bird struct {
	from, to *cluster.Node
	route    netlink.Route // what it brings
	listener net.Listener
	stop     context.CancelFunc
	tasks    sync.WaitGroup

	mu  sync.Mutex
	up  bool
	err error
}

// startBird starts both ends and waits for the route.
func startBird(from, to *cluster.Node) (*bird, error) {
	index, err := from.Netns.LinkIndex(from.Uplink)
	if err != nil {
		return nil, err
	}
	b := &bird{from: from, to: to, route: netlink.Route{LinkIndex: index, Dst: netns.IPNet(to.PodNet), Gw: to.Addr.AsSlice(), Protocol: unix.RTPROT_BIRD}}
	err = to.Netns.Do(func() (err error) {
		b.listener, err = net.Listen("tcp", netip.AddrPortFrom(to.Addr, bgpPort).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for BGP on %s: %w", to.Name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.tasks.Go(func() { b.serve(ctx) })
	b.tasks.Go(func() { b.connect(ctx) })
	return b, b.await(true)
}

// serve answers at the far node.
func (b *bird) serve(ctx context.Context) {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.tasks.Go(func() { b.talk(ctx, conn) })
	}
}

// connect tries again and again, and keeps the route while it is connected.
func (b *bird) connect(ctx context.Context) {
	for ctx.Err() == nil {
		var conn net.Conn
		err := b.from.Netns.Do(func() (err error) {
			conn, err = (&net.Dialer{Timeout: bgpRetry}).DialContext(ctx, "tcp", netip.AddrPortFrom(b.to.Addr, bgpPort).String())
			return err
		})
		if err != nil {
			select { // refused, or nobody answers
			case <-ctx.Done():
			case <-time.After(bgpKeepalive):
			}
			continue
		}
		b.set(true, b.from.Netns.Link().RouteReplace(&b.route))
		b.talk(ctx, conn)
		b.set(false, b.from.Netns.Link().RouteDel(&b.route))
	}
}

// talk keeps a session alive until it is cut.
func (b *bird) talk(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		buf := make([]byte, 64)
		for {
			if conn.SetReadDeadline(time.Now().Add(bgpHold)) != nil {
				return
			}
			if _, err := conn.Read(buf); err != nil {
				return // silence, or the end
			}
		}
	}()
	for tick := time.NewTicker(bgpKeepalive); ; {
		select {
		case <-heard:
			tick.Stop()
			return
		case <-ctx.Done():
			tick.Stop()
			conn.Close()
			<-heard
			return
		case <-tick.C:
			// one that cannot be sent shows as silence at the other end
			_, _ = conn.Write(make([]byte, 19)) // a KEEPALIVE's length, RFC 4271
		}
	}
}

func (b *bird) set(up bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = up
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("route %s of %s: %w", b.route.Dst, b.from.Name, err)
	}
}

// await waits until the session is up, or gone.
func (b *bird) await(up bool) error {
	for deadline := time.Now().Add(bgpWithin); ; time.Sleep(10 * time.Millisecond) {
		b.mu.Lock()
		now, err := b.up, b.err
		b.mu.Unlock()
		switch {
		case err != nil:
			return err
		case now == up:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("BGP session of %s and %s: up %v after %v, want %v", b.from.Name, b.to.Name, now, bgpWithin, up)
		}
	}
}

// end stops both ends; the route goes with the session.
func (b *bird) end() error {
	b.stop()
	err := b.listener.Close()
	b.tasks.Wait()
	if err == nil {
		err = b.err
	}
	return errors.Join(err, b.to.Netns.AwaitFree("tcp", bgpPort))
}
