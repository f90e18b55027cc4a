// SPDX-License-Identifier: Apache-2.0

package tracer

// The bytes of packets equal what tcpdump captured on the same interface in the
// same test. Needs root and tcpdump; runs the same in VMs of other kernels.

import (
	"context"
	"encoding/binary"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/attach"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

// traced runs a trace of the pod's packets with their bytes while f sends them.
func traced(t *testing.T, c *nodetest.Cluster, backend string, snap int, f func()) ([]*model.Packet, *model.Summary) {
	t.Helper()
	tr, err := New(context.Background(), Config{Src: "caliaa", Dst: "any", NetnsPath: c.Path("n"), Backend: backend,
		Sample: -1, SnapLen: snap, Version: "test", Verbose: func(line string) { t.Log(line) }, Warn: func(line string) { t.Log("warning:", line) }})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	got := &collector{room: 1 << 20}
	stop := running(t, tr, got)
	defer stop()
	f()
	for quiet := 0; quiet < 3; time.Sleep(50 * time.Millisecond) { // emulated machines read slowly
		quiet++
		if filled, _ := tr.att.Ring().Filled(); filled > 0 {
			quiet = 0
		}
	}
	sum := stop()
	return got.packets, sum
}

func TestFramesAreWhatTcpdumpSees(t *testing.T) {
	if testing.Short() {
		t.Skip("sends packets for some seconds")
	}
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("needs tcpdump")
	}
	c, hasVLAN := frameNode(t)
	tcp := func(size int, to string) func(*testing.T) {
		return func(t *testing.T) { upload(t, c, size, to) }
	}
	udp := func(size int, to string) func(*testing.T) {
		return func(t *testing.T) { datagrams(t, c, size, to) }
	}
	ping := func(size int, to string) func(*testing.T) {
		return func(*testing.T) { c.In("a", fmt.Sprintf("ping -q -c 3 -i 0.05 -s %d %s", size, to)) }
	}
	whole := []func(*testing.T){
		tcp(300_000, "10.99.0.2:8080"), tcp(100_000, "[fd00:99::2]:8080"), tcp(100_000, "10.245.0.2:8080"),
		udp(1400, "10.99.0.2:9999"), udp(1400, "10.245.0.2:9999"), udp(1400, "[fd00:99::2]:9999"),
		ping(56, "10.99.0.2"), ping(5000, "10.99.0.2"), ping(1000, "fd00:99::2"), ping(1000, "10.245.0.2"),
	}
	cut := []func(*testing.T){tcp(300_000, "10.99.0.2:8080"), udp(1400, "10.99.0.2:9999"), ping(1000, "fd00:99::2")}
	if hasVLAN {
		whole = append(whole, tcp(100_000, "10.97.0.2:8080"), ping(1000, "10.97.0.2"))
		cut = append(cut, ping(1000, "10.97.0.2"))
	}
	for _, f := range []struct {
		name    string
		snap    int
		prepare string // in the pod
		send    []func(*testing.T)
	}{
		{"whole", attach.MaxSnapLen, "", whole},
		{"cut", 256, "", cut},
		{"cut short", 64, "", cut},
		{"segments cut by the sender", attach.MaxSnapLen, "ip link set eth0 gso_max_segs 1", []func(*testing.T){tcp(300_000, "10.99.0.2:8080"), tcp(100_000, "10.245.0.2:8080")}},
	} {
		t.Run(f.name, func(t *testing.T) {
			if f.prepare != "" {
				c.In("a", f.prepare)
			}
			ifaces := []string{"caliaa", "eth0"}
			var captures []func() []dumped
			packets, sum := traced(t, c, "", f.snap, func() {
				for _, i := range ifaces {
					captures = append(captures, dump(t, c, i, f.snap))
				}
				for _, send := range f.send {
					send(t)
				}
			})
			t.Logf("summary: %+v", *sum)
			if sum.LostEvents+sum.LostFrames+sum.LostPackets > 0 {
				t.Errorf("lost: %d events, %d packets, bytes of %d hops", sum.LostEvents, sum.LostPackets, sum.LostFrames)
			}
			if sum.CutFrames > 0 {
				t.Errorf("bytes of %d hops cut short", sum.CutFrames)
			}
			for i, iface := range ifaces {
				sameFrames(t, iface, framesOn(packets, c.Inode("n"), iface), captures[i](), f.snap)
			}
			checkFrames(t, packets, f.snap)
		})
	}
}

// sent traces with whole packets as bytes; nothing reads before all were sent.
func sent(t *testing.T, c *nodetest.Cluster, prepare func(*Tracer) error, send func()) ([]*model.Packet, *model.Summary) {
	t.Helper()
	tr, err := New(context.Background(), Config{Src: "caliaa", Dst: "any", NetnsPath: c.Path("n"), Sample: -1, SnapLen: attach.MaxSnapLen, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := prepare(tr); err != nil {
		t.Fatal(err)
	}
	send()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	got := &collector{room: 1 << 20}
	sum, err := tr.Run(ctx, got)
	if err != nil {
		t.Fatal(err)
	}
	return got.packets, sum
}

// The ring buffer runs full: each frame that has no room in it is counted.
func TestLostFramesAreCounted(t *testing.T) {
	if testing.Short() {
		t.Skip("sends packets for some seconds")
	}
	c, _ := frameNode(t)
	packets, sum := sent(t, c, func(*Tracer) error { return nil }, func() { upload(t, c, 40_000_000, "10.99.0.2:8080") })
	with, without := 0, 0
	for _, p := range packets {
		for _, h := range p.Hops {
			switch {
			case h.Frame != nil:
				with++
			case h.Function != "" && h.Stage != model.StageRoute:
				without++
			}
		}
	}
	t.Logf("%d hops with bytes, %d without; counted as lost: %d events, bytes of %d hops", with, without, sum.LostEvents, sum.LostFrames)
	if with == 0 || without == 0 || uint64(without) > sum.LostFrames {
		t.Error("what lacks its bytes is not what was counted")
	}
}

// Where memory was not found, frames end before the first fragment, and that is
// counted.
func TestFramesWithoutFragments(t *testing.T) {
	if testing.Short() {
		t.Skip("sends packets for some seconds")
	}
	c, _ := frameNode(t)
	packets, sum := sent(t, c, func(tr *Tracer) error { return tr.att.Variable("known_page").Set(uint64(0)) },
		func() { upload(t, c, 100_000, "10.99.0.2:8080") })
	cut := map[*model.Frame]bool{}
	for _, p := range packets {
		for _, h := range p.Hops {
			if f := h.Frame; f != nil && len(f.Bytes) < int(f.Length) {
				cut[f] = true
				if len(f.Bytes) < 14+20+20 || datagramLength(f.Bytes) != int(f.Length) {
					t.Errorf("%s in %s: %d of %d bytes: %x", h.Stage, h.Place, len(f.Bytes), f.Length, f.Bytes[:min(64, len(f.Bytes))])
				}
			}
		}
	}
	t.Logf("bytes of %d hops cut, %d counted", len(cut), sum.CutFrames)
	if len(cut) == 0 || sum.CutFrames != uint64(len(cut)) {
		t.Error("what was cut is not what was counted")
	}
}

// framesOn are the frames that came or went by an interface.
func framesOn(packets []*model.Packet, netns uint32, iface string) (all []dumped) {
	for _, p := range packets {
		for _, h := range p.Hops {
			if h.Netns == netns && h.Interface == iface && h.Frame != nil && (h.Stage == model.StageReceive || h.Stage == model.StageTransmit) &&
				ofThePod(h.Frame.Bytes) {
				all = append(all, dumped{h.Frame.Length, string(h.Frame.Bytes)})
			}
		}
	}
	return all
}

// sameFrames wants the same frames as often, in whatever order.
func sameFrames(t *testing.T, iface string, got, want []dumped, snap int) {
	t.Helper()
	if len(want) == 0 {
		t.Fatalf("%s: tcpdump saw nothing", iface)
	}
	count := map[dumped]int{}
	longest := 0
	for _, d := range want {
		count[d]++
		longest = max(longest, int(d.length))
	}
	for _, d := range got {
		if count[d]--; count[d] < 0 {
			t.Errorf("%s: tcpdump has no such frame: %s", iface, d)
		}
	}
	for d, n := range count {
		if n > 0 {
			t.Errorf("%s: only tcpdump has this frame, %d times: %s", iface, n, d)
		}
	}
	t.Logf("%s: %d frames, the longest of %d bytes, snap length %d", iface, len(want), longest, snap)
}

func (d dumped) String() string {
	return fmt.Sprintf("%d of %d bytes: %.120x", len(d.bytes), d.length, d.bytes)
}

// checkFrames looks at the frames of all hops: they are of the packet that was
// told, whole up to the snap length.
func checkFrames(t *testing.T, packets []*model.Packet, snap int) {
	t.Helper()
	var without []string
	made := 0
	for _, p := range packets {
		for _, h := range p.Hops {
			what := fmt.Sprintf("%s in %s on %s", h.Stage, h.Place, h.Interface)
			f := h.Frame
			if f == nil {
				if h.Stage != model.StageRoute && !slices.Contains(without, what) {
					without = append(without, what)
				}
				continue
			}
			if f.Synthetic {
				made++
			}
			if f.LinkType != 1 || len(f.Bytes) != min(int(f.Length), snap) {
				t.Errorf("%s: link type %d, %d of %d bytes", what, f.LinkType, len(f.Bytes), f.Length)
			} else if length := datagramLength(f.Bytes); length != int(f.Length) {
				t.Errorf("%s: frame of %d bytes holds a datagram that makes it %d: %x", what, f.Length, length, f.Bytes[:min(64, len(f.Bytes))])
			}
		}
	}
	if made == 0 {
		t.Error("no hop with a header that was made up: local output has none")
	}
	if len(without) > 0 {
		t.Errorf("no bytes at: %s", strings.Join(without, "; "))
	}
}

// datagramLength is how long a frame is by its IP header.
func datagramLength(frame []byte) int {
	at := 12
	for binary.BigEndian.Uint16(frame[at:]) == unix.ETH_P_8021Q {
		at += 4
	}
	ip := frame[at+2:]
	switch binary.BigEndian.Uint16(frame[at:]) {
	case unix.ETH_P_IP:
		return at + 2 + int(binary.BigEndian.Uint16(ip[2:]))
	case unix.ETH_P_IPV6:
		return at + 2 + 40 + int(binary.BigEndian.Uint16(ip[4:]))
	}
	return -1
}
