// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// What the kernel prints of a real listening socket with one connection that
// nobody accepted, on either family, is what was made.
func TestSockets(t *testing.T) {
	for _, tc := range []struct{ network, file, addr string }{{"tcp4", "tcp", "127.0.0.1:0"}, {"tcp6", "tcp6", "[::1]:0"}} {
		t.Run(tc.network, func(t *testing.T) {
			l, err := net.Listen(tc.network, tc.addr)
			if err != nil {
				t.Skipf("no %s here: %v", tc.network, err)
			}
			defer l.Close()
			c, err := net.Dial(tc.network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			at := netip.MustParseAddrPort(l.Addr().String())
			mine := netip.MustParseAddrPort(c.LocalAddr().String())
			text, err := os.ReadFile("/proc/thread-self/net/" + tc.file)
			if err != nil {
				t.Fatal(err)
			}
			all, err := readSockets(strings.NewReader(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			listening, connected := false, false
			for _, s := range all {
				listening = listening || s.State == TCPListen && s.Local == at && s.Queue == 1
				connected = connected || s.State == TCPEstablished && s.Local == mine && s.Remote == at
			}
			if !listening || !connected {
				t.Errorf("listening with a queue of one: %v, connected: %v, in\n%s", listening, connected, text)
			}
		})
	}
	if _, err := readSockets(strings.NewReader("0: 0100007F 00 0A 0:0 x")); err == nil {
		t.Error("an address without a port is taken")
	}
}
