// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func TestReadConntrackStats(t *testing.T) {
	// as Linux 6.18 printed it, and as Linux 4.19 named the first columns
	const told = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n" +
		"00000001  00000000 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000012 00000002 00000000 00000000  00000000 00000000 00000000 00000000\n" +
		"00000001  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000001 00000000 00000000  00000000 00000000 00000000 00000000\n"
	got, err := readConntrackStats(strings.NewReader(told))
	if want := (ConntrackStats{InsertFailed: 0x13, Drop: 3}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "entries drop\n1 x\n"} {
		if _, err := readConntrackStats(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A connection is found by its addresses from either side, translated ones too, and
// one that is not there is no error.
func TestConnection(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "iptables-nft -t nat -A OUTPUT -d 127.0.0.9 -p udp -j DNAT --to-destination 127.0.0.1:5353")
	n, err := OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	in := n.Node().Inode
	var from netip.AddrPort
	if err := n.Do(in, func() error {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "udp", "127.0.0.9:53")
		if err != nil {
			return err
		}
		defer conn.Close()
		from = conn.LocalAddr().(*net.UDPAddr).AddrPort()
		_, err = conn.Write([]byte("q"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	asked, to := netip.MustParseAddrPort("127.0.0.9:53"), netip.MustParseAddrPort("127.0.0.1:5353")
	for _, f := range []Flow{{unix.IPPROTO_UDP, from, asked}, {unix.IPPROTO_UDP, to, from}} {
		got, ok, err := n.Connection(in, f)
		if err != nil || !ok || got.Orig != (Flow{unix.IPPROTO_UDP, from, asked}) || got.Reply != (Flow{unix.IPPROTO_UDP, to, from}) || got.Replied {
			t.Errorf("%v: %+v, %v, %v", f, got, ok, err)
		}
	}
	for _, f := range []Flow{{unix.IPPROTO_UDP, from, to}, {unix.IPPROTO_TCP, from, asked}, {unix.IPPROTO_ICMPV6, netip.MustParseAddrPort("[::1]:7"), netip.MustParseAddrPort("[::1]:7")}} {
		if got, ok, err := n.Connection(in, f); ok || err != nil {
			t.Errorf("%v: %+v, %v", f, got, err)
		}
	}
}

// A connection is found in its zone alone; where the zone counts for one direction, the
// other one is in the default zone.
func TestConnectionInZone(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "iptables-nft -t raw -A OUTPUT -d 127.0.0.9 -p udp -j CT --zone 4")
	c.In("n", "iptables-nft -t raw -A OUTPUT -d 127.0.0.10 -p udp -j CT --zone-orig 5")
	c.In("n", "iptables-nft -t filter -A INPUT -m conntrack --ctstate INVALID -j DROP") // conntrack is on
	n, err := OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	in := n.Node().Inode
	for _, tc := range []struct {
		to                string
		zone              uint16
		want              Connection
		inZero, backInOwn bool
	}{
		{"127.0.0.9:53", 4, Connection{Zone: 4}, false, true},
		{"127.0.0.10:53", 5, Connection{ZoneOrig: 5}, true, false},
	} {
		var from netip.AddrPort
		if err := n.Do(in, func() error {
			conn, err := (&net.Dialer{}).DialContext(context.Background(), "udp", tc.to)
			if err != nil {
				return err
			}
			defer conn.Close()
			from = conn.LocalAddr().(*net.UDPAddr).AddrPort()
			_, err = conn.Write([]byte("q"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		f := Flow{unix.IPPROTO_UDP, from, netip.MustParseAddrPort(tc.to)}
		got, ok, err := n.ConnectionInZone(in, f, tc.zone)
		if err != nil || !ok || got.Orig != f || got.Zone != tc.want.Zone || got.ZoneOrig != tc.want.ZoneOrig || got.ZoneReply != 0 {
			t.Errorf("%s in zone %d: %+v, %v, %v", tc.to, tc.zone, got, ok, err)
		}
		if got, ok, err := n.Connection(in, f); ok || err != nil {
			t.Errorf("%s in the default zone: %+v, %v", tc.to, got, err)
		}
		if _, ok, err := n.Connection(in, f.Back()); ok != tc.inZero || err != nil {
			t.Errorf("what answers %s, in the default zone: %v, %v, want %v", tc.to, ok, err, tc.inZero)
		}
		if _, ok, err := n.ConnectionInZone(in, f.Back(), tc.zone); ok != tc.backInOwn || err != nil {
			t.Errorf("what answers %s, in zone %d: %v, %v, want %v", tc.to, tc.zone, ok, err, tc.backInOwn)
		}
	}
}

// A connection that found no place is counted in its own namespace.
func TestConntrackStats(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "iptables-nft -t nat -A POSTROUTING -d 127.0.0.1 -p udp --dport 9 -j SNAT --to-source 127.0.0.5:5000")
	n, err := OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	in := n.Node().Inode
	before, err := n.ConntrackStats(in)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this kernel shows no counters of conntrack")
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Do(in, func() error {
			conn, err := (&net.Dialer{}).DialContext(context.Background(), "udp", "127.0.0.1:9")
			if err != nil {
				return err
			}
			defer conn.Close()
			_, _ = conn.Write([]byte("q")) // the second is refused
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	after, err := n.ConntrackStats(in)
	if err != nil || after.InsertFailed != before.InsertFailed+1 {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
}
