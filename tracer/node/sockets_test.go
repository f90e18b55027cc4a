// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
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

// What keeps a listening socket from taking all that is for its port is read off it, and
// proc's list has the same sockets without it.
func TestListeners(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "ip link set lo up", "ip link add one type bridge", "ip link set one up")
	n := openNode(t, c.Path("n"))
	links, err := n.Links(n.Node().Inode)
	if err != nil {
		t.Fatal(err)
	}
	device := links[slices.IndexFunc(links, func(l Link) bool { return l.Name == "one" })].Index
	bound := func(device string, only int) func(string, string, syscall.RawConn) error {
		return func(_, _ string, raw syscall.RawConn) (err error) {
			control := raw.Control(func(fd uintptr) {
				if device != "" {
					err = unix.BindToDevice(int(fd), device)
				}
				if only >= 0 && err == nil {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
				}
			})
			return errors.Join(control, err)
		}
	}
	for name, tc := range map[string]struct {
		network, addr, device string
		only                  int
		says                  string
	}{
		"both families": {"tcp", "[::]:0", "", 0, "*:"},
		"IPv6 only":     {"tcp6", "[::]:0", "", 1, "[::]:"},
		"IPv4":          {"tcp4", "0.0.0.0:0", "", -1, "0.0.0.0:"},
		"bound":         {"tcp4", "0.0.0.0:0", "one", -1, "0.0.0.0:"},
		"loopback":      {"tcp4", "127.0.0.1:0", "", -1, "127.0.0.1:"},
		"UDP":           {"udp4", "0.0.0.0:0", "one", -1, "0.0.0.0:"},
		"UDP, IPv6":     {"udp6", "[::]:0", "", 1, "[::]:"},
	} {
		t.Run(name, func(t *testing.T) {
			var at netip.AddrPort
			var opened io.Closer
			err := n.Do(n.Node().Inode, func() error {
				lc := net.ListenConfig{Control: bound(tc.device, tc.only)}
				if strings.HasPrefix(tc.network, "udp") {
					p, err := lc.ListenPacket(t.Context(), tc.network, tc.addr)
					if err == nil {
						opened, at = p, netip.MustParseAddrPort(p.LocalAddr().String())
					}
					return err
				}
				l, err := lc.Listen(t.Context(), tc.network, tc.addr)
				if err == nil {
					opened, at = l, netip.MustParseAddrPort(l.Addr().String())
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			want := Listener{Local: at, V6Only: tc.only == 1, Whole: true}
			if tc.device != "" {
				want.Device = device
			}
			all, err := n.Listeners(n.Node().Inode, tc.network[:3])
			if err != nil || len(all) != 1 {
				t.Fatalf("got %+v, %v, want one", all, err)
			}
			got := all[0]
			if !got.Whole {
				t.Skip("sock_diag is not here")
			}
			if want.Inode = got.Inode; got != want || got.Inode == 0 || got.String() != tc.says+fmt.Sprint(at.Port()) {
				t.Errorf("got %+v (%s), want %+v (%s)", got, got, want, tc.says)
			}
			plain, err := n.listenersOfProc(n.Node().Inode, tc.network[:3])
			if err != nil || len(plain) != 1 || plain[0] != (Listener{Local: at, Inode: got.Inode}) {
				t.Errorf("proc: got %+v, %v", plain, err)
			}
		})
	}
}
