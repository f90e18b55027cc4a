// SPDX-License-Identifier: Apache-2.0

package tracer

// A node whose packets have all the forms that frames come in, traffic through
// it, and what tcpdump writes about that.

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// Of the pod of frameNode.
var (
	podAddress4 = []byte{10, 244, 1, 2}
	podAddress6 = net.ParseIP("fd00:1::2")
)

// frameNode is a node "n" with the pod "a" behind caliaa and another host
// "far", reached by eth0 as it is, by the VLAN eth0.7 and by vxlan0.
//
//	a 10.244.1.2 --- caliaa n eth0 --- eth0 far
func frameNode(t *testing.T) (c *nodetest.Cluster, hasVLAN bool) {
	t.Helper()
	c = nodetest.New(t)
	c.Add("n", "far", "a")
	if inVM() {
		loadModules(t, "8021q", "vxlan", "nf_tables")
	}
	hasVLAN = exec.Command("nsenter", "--net="+c.Path("n"), "ip", "link", "add", "link", "lo", "name", "lo.7", "type", "vlan", "id", "7").Run() == nil
	c.In("n", "ip link add eth0 type veth peer name eth0 netns @far", "ip link set eth0 up",
		"ip addr add 10.99.0.1/24 dev eth0", "ip route add default via 10.99.0.2", "ip addr add fd00:99::1/64 dev eth0 nodad",
		"ip addr add fe80::2/64 dev eth0 nodad", // neighbours are asked for from such an address
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	c.In("far", "ip link set eth0 up", "ip addr add 10.99.0.2/24 dev eth0", "ip addr add fd00:99::2/64 dev eth0 nodad",
		"ip addr add fe80::3/64 dev eth0 nodad",
		"ip route add 10.244.1.0/24 via 10.99.0.1", "ip route add fd00:1::/64 via fd00:99::1")
	for i, in := range []string{"n", "far"} {
		if hasVLAN {
			c.In(in, "ip link add link eth0 name eth0.7 type vlan id 7", "ip link set eth0.7 up",
				fmt.Sprintf("ip addr add 10.97.0.%d/24 dev eth0.7", i+1))
		}
		c.In(in, fmt.Sprintf("ip link add vxlan0 type vxlan id 42 dev eth0 dstport 4789 local 10.99.0.%d remote 10.99.0.%d", i+1, 2-i),
			"ip link set vxlan0 up", fmt.Sprintf("ip addr add 10.245.0.%d/24 dev vxlan0", i+1))
	}
	c.CalicoPod("n", "a", "caliaa", "10.244.1.2", "fd00:1::2")
	c.In("n", "sysctl -qw net.ipv4.conf.caliaa.proxy_arp=1", "ip addr add fe80::1/64 dev caliaa nodad")
	c.In("a", "ip addr add fe80::4/64 dev eth0 nodad", "ip route add default via fe80::1 dev eth0 rto_min 10s",
		// a segment sent again may be told with the packet it was cut from, which may have been told already
		"ip route replace default via 169.254.1.1 dev eth0 rto_min 10s", "sysctl -qw net.ipv4.tcp_early_retrans=0")
	return c, hasVLAN
}

// within runs f in a namespace of the cluster: sockets that it opens are there.
func within(t *testing.T, c *nodetest.Cluster, short string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPath(c.Path(short))
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", short, err)
	}
}

// upload sends so many bytes of a file, as web servers do (sendfile).
func upload(t *testing.T, c *nodetest.Cluster, size int, to string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	within(t, c, "far", func() (err error) { l, err = net.Listen("tcp", to); return })
	defer l.Close()
	received := make(chan error, 1)
	go func() {
		s, err := l.Accept()
		if err == nil {
			var got []byte
			got, err = io.ReadAll(s)
			if err == nil && !bytes.Equal(got, data) {
				err = fmt.Errorf("%d bytes came, others than were sent", len(got))
			}
			s.Close()
		}
		received <- err
	}()
	within(t, c, "a", func() error {
		d := net.Dialer{FallbackDelay: -1, Timeout: 5 * time.Second}
		s, err := d.Dial("tcp", to)
		if err != nil {
			return err
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err = io.Copy(s, f); err != nil {
			return err
		}
		return s.Close()
	})
	if err := <-received; err != nil {
		t.Fatal(err)
	}
}

// datagrams sends UDP to where nobody listens: ICMP errors come back.
func datagrams(t *testing.T, c *nodetest.Cluster, size int, to string) {
	t.Helper()
	within(t, c, "a", func() error {
		s, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer s.Close()
		for i := range 3 {
			if _, err := s.Write(bytes.Repeat([]byte{byte(i), 'u'}, size/2)); err != nil && i == 0 {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
}

// dumped is what tcpdump writes about one frame.
type dumped struct {
	length uint32
	bytes  string
}

// dump runs tcpdump on an interface of the node until the returned function is
// called, which gives what it captured.
func dump(t *testing.T, c *nodetest.Cluster, iface string, snap int) func() []dumped {
	t.Helper()
	file := filepath.Join(t.TempDir(), iface+".pcap")
	cmd := exec.Command("nsenter", "--net="+c.Path("n"), "tcpdump", "-i", iface, "-U", "--immediate-mode", "-B", "65536", "-s", fmt.Sprint(snap), "-w", file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	says := bufio.NewScanner(stderr)
	for says.Scan() && !strings.Contains(says.Text(), "listening on") {
	}
	return func() []dumped {
		t.Helper()
		for last := int64(-1); ; time.Sleep(200 * time.Millisecond) { // what it has not read when it is told to stop is gone
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if st.Size() == last {
				break
			}
			last = st.Size()
		}
		if err := cmd.Process.Signal(unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		for says.Scan() {
			if line := says.Text(); strings.Contains(line, "dropped by kernel") && !strings.HasPrefix(line, "0 ") {
				t.Errorf("tcpdump on %s: %s", iface, line)
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("tcpdump on %s: %v", iface, err)
		}
		return readDump(t, file)
	}
}

// readDump reads a capture file as tcpdump writes it here: little-endian.
func readDump(t *testing.T, file string) (all []dumped) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for raw = raw[24:]; len(raw) >= 16; {
		n := 16 + binary.LittleEndian.Uint32(raw[8:])
		if frame := raw[16:n]; ofThePod(frame) {
			all = append(all, dumped{binary.LittleEndian.Uint32(raw[12:]), string(frame)})
		}
		raw = raw[n:]
	}
	return all
}

// ofThePod tells whether one of the pod's addresses stands in a frame's headers,
// and that it asks for no neighbour: tcpdump's filters do not look into tunnels.
func ofThePod(frame []byte) bool {
	headers := frame[:min(len(frame), 14+20+8+8+14+20)]
	etherType := binary.BigEndian.Uint16(frame[12:])
	neighbours := etherType == unix.ETH_P_ARP || etherType == unix.ETH_P_IPV6 && len(frame) > 54 &&
		frame[20] == unix.IPPROTO_ICMPV6 && frame[54] >= 133 && frame[54] <= 137
	return !neighbours && (bytes.Contains(headers, podAddress4) || bytes.Contains(headers, podAddress6))
}
