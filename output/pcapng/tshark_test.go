// SPDX-License-Identifier: Apache-2.0

// tshark_test.go reads what is written with wireshark's own tools, and looks at
// it as a user would.

package pcapng

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// tool runs one of wireshark's tools on a file. It may say nothing but what was
// asked for (and, to root, that root is dangerous).
func tool(t *testing.T, file []byte, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed: make deps-test installs it", name)
	}
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, arg := range args {
		if arg == "FILE" {
			args[i] = path
		}
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var complaint []string
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, "Running as user") {
			complaint = append(complaint, line)
		}
	}
	if err != nil || len(complaint) > 0 {
		t.Errorf("%s: %v: %s", name, err, strings.Join(complaint, ""))
	}
	return stdout.String()
}

// fields gives fields of every packet, as tshark shows them.
func fields(t *testing.T, file []byte, names ...string) [][]string {
	t.Helper()
	args := []string{"-r", "FILE", "-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"}
	for _, name := range names {
		args = append(args, "-e", name)
	}
	var rows [][]string
	for line := range strings.Lines(tool(t, file, "tshark", args...)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows
}

func TestTsharkReadsRecordedTraces(t *testing.T) {
	recordings := traces(t)
	for i, name := range slices.Sorted(maps.Keys(recordings)) {
		if i%15 != 0 { // each takes tshark a second
			continue
		}
		t.Run(name, func(t *testing.T) {
			wantDrops(t, recordings[name])
			wantHops(t, recordings[name])
		})
	}
}

// wantDrops compares a capture of deaths with the JSON that it was made of.
func wantDrops(t *testing.T, trace []byte) {
	rows := fields(t, written(t, trace, Options{}), "frame.packet_id", "frame.interface_name", "frame.interface_description", "frame.len", "frame.comment")
	var want [][]string
	for _, p := range packetsIn(t, trace) {
		if !p.Outcome.Died() {
			continue
		}
		description := fmt.Sprintf("%s, netns %d", p.Drop.Place, p.Drop.Netns)
		length := p.Length
		for _, h := range p.Hops {
			if h.Stage == model.StageDrop {
				length = h.Length
			}
		}
		want = append(want, []string{fmt.Sprint(p.ID), p.Drop.Interface, description, fmt.Sprint(length)})
	}
	if len(rows) != len(want) {
		t.Fatalf("%d packets, want %d: %v", len(rows), len(want), rows)
	}
	for i, row := range rows {
		if !slices.Equal(row[:4], want[i]) {
			t.Errorf("packet %d: %v, want %v", i, row[:4], want[i])
		}
		first, _, _ := strings.Cut(row[4], `\n`)
		p := packetWith(t, trace, row[0])
		for _, part := range []string{p.Drop.Reason, p.Drop.Hook, p.Drop.Table} {
			if !strings.Contains(first, part) {
				t.Errorf("packet %s: first line of the comment lacks %q: %s", row[0], part, first)
			}
		}
		if r := p.Drop.Rule; r != nil && !strings.HasSuffix(first, ": "+r.Text) {
			t.Errorf("packet %s: the rule does not stand alone: %s", row[0], first)
		}
	}
}

// wantHops compares a capture of everything with the JSON.
func wantHops(t *testing.T, trace []byte) {
	rows := fields(t, written(t, trace, Options{All: true}), "frame.packet_id", "frame.interface_name", "frame.time_epoch", "frame.comment")
	var got, want []string
	for _, row := range rows {
		got = append(got, strings.Join(row[:3], " "))
	}
	for _, p := range packetsIn(t, trace) {
		for _, h := range p.Hops {
			at := p.Time.UnixNano() + h.AtNS
			iface := h.Interface
			if h.Stage == model.StageDrop && p.Drop != nil {
				iface = p.Drop.Interface
			}
			want = append(want, fmt.Sprintf("%d %s %d.%09d", p.ID, iface, at/1e9, at%1e9))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("packet blocks:\n got %v\nwant %v", got, want)
	}
}

func packetsIn(t *testing.T, trace []byte) []*model.Packet {
	t.Helper()
	var c collect
	if err := model.ReadJSON(bytes.NewReader(trace), &c); err != nil {
		t.Fatal(err)
	}
	return c.packets
}

func packetWith(t *testing.T, trace []byte, id string) *model.Packet {
	t.Helper()
	for _, p := range packetsIn(t, trace) {
		if fmt.Sprint(p.ID) == id {
			return p
		}
	}
	t.Fatalf("no packet %s", id)
	return nil
}

// What people see of a death: the rule, the finding, the names.
func TestTsharkShowsDropRuleAndFinding(t *testing.T) {
	live := &model.Finding{Code: "policy-deny", Confidence: "certain", Packets: []uint64{1}, Summary: "not the last word on it, and a longer one", Live: true}
	finding := &model.Finding{Code: "policy-deny", Confidence: "certain", Direction: model.Forward, Packets: []uint64{1}, Summary: "a policy denies it", Evidence: []string{"the rule"}, Fix: []string{"kubectl edit"}}
	data := file(t, Options{SnapLen: 256}, made(),
		diedWith(1, &model.Frame{LinkType: 1, Bytes: bytesOf(t, macs+"0800"+syn4), Length: 74}), live,
		diedWith(2, &model.Frame{LinkType: 1, Bytes: bytesOf(t, macs+"0800"+syn4), Length: 74, Synthetic: true}),
		finding, &model.Summary{Forward: model.Counts{Seen: 2, Dropped: 2}})
	rows := fields(t, data, "frame.packet_id", "frame.interface_name", "frame.interface_description", "frame.packet_flags_direction", "frame.comment")
	if len(rows) != 2 {
		t.Fatalf("%d packets: %v", len(rows), rows)
	}
	const comment = `DROP NETFILTER_DROP filter/FORWARD rule 7 of cali-tw-cali1: -A cali-tw-cali1 -m comment --comment "Drop it" -j DROP\n` +
		`#1 forward TCP 10.0.0.1:4000 > 10.0.0.2:80 [S], 60 bytes, +0.001 ms at node (cali1)\nrule exact: seen matching in the kernel\nfunction nf_hook_slow+0x7d`
	want := []string{"1", "cali1", "node, netns 10, leads to default/client", "0x00000001",
		comment + `|FINDING policy-deny (certain): a policy denies it\nbecause the rule\nfix kubectl edit`}
	if !slices.Equal(rows[0], want) {
		t.Errorf("\n got %q\nwant %q", rows[0], want)
	}
	if got := rows[1][4]; !strings.HasSuffix(got, `\nlink-layer header made up: it had none here`) {
		t.Errorf("made-up header: %s", got)
	}
	info := tool(t, data, "capinfos", "FILE")
	for _, want := range []string{
		"Capture oper-sys:    Linux 6.12.1\n", "Capture application: pathtrace 1.2.3\n", "Capture comment:     pathtrace client -> 10.0.0.0/24 tcp port 80\n",
		"forward 2 seen, 0 delivered, 2 dropped", "FINDING policy-deny (certain): a policy denies it", "Number of packets:   2\n",
		"Number of resolved IPv4 addresses in file: 1\n", "Number of resolved IPv6 addresses in file: 1\n",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("capinfos does not say %q:\n%s", want, info)
		}
	}
	hosts := tool(t, data, "tshark", "-r", "FILE", "-q", "-z", "hosts")
	if !strings.Contains(hosts, "10.0.0.1\tdefault/client\n") || !strings.Contains(hosts, "fd00::1\tdefault/client\n") {
		t.Errorf("names: %s", hosts)
	}
}

// Bytes of all kinds of packets are dissected as what they are.
func TestTsharkDissects(t *testing.T) {
	eth := func(digits string) *model.Frame {
		b := bytesOf(t, macs+digits)
		return &model.Frame{LinkType: 1, Bytes: b, Length: uint32(len(b))}
	}
	tunnel := vxlan(bytesOf(t, macs+"0800"+syn4))
	gso := eth("0800" + syn4)
	gso.Length = 64000
	raw := bytesOf(t, syn4)
	cases := []struct {
		name  string
		frame *model.Frame
		field string
		want  string
	}{
		{"IPv4", eth("0800" + syn4), "ip.dst", "10.0.0.2"},
		{"IPv6", eth("86dd" + syn6), "ipv6.dst", "fd00::2"},
		{"VLAN", eth("8100 002a 0800" + syn4), "vlan.id", "42"},
		{"VXLAN", &model.Frame{LinkType: 1, Bytes: tunnel, Length: uint32(len(tunnel))}, "vxlan.vni", "4096"},
		{"GSO", gso, "frame.len", "64000"},
		{"raw IP", &model.Frame{LinkType: linkRaw, Bytes: raw, Length: 60}, "tcp.dstport", "80"},
		{"no bytes", nil, "frame.len", "60"},
		{"no bytes of a frame", &model.Frame{LinkType: 1, Length: 1514}, "frame.len", "1514"},
		{"nothing at all", &model.Frame{LinkType: 1}, "frame.len", "0"},
	}
	objects, names := []any{made()}, []string{"frame.packet_id"}
	for i, c := range cases {
		objects = append(objects, diedWith(uint64(i), c.frame))
		if !slices.Contains(names, c.field) {
			names = append(names, c.field)
		}
	}
	rows := fields(t, file(t, Options{}, append(objects, &model.Summary{})...), names...)
	if len(rows) != len(cases) {
		t.Fatalf("%d packets, want %d", len(rows), len(cases))
	}
	for i, c := range cases {
		if got := rows[i][slices.Index(names, c.field)]; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A reader sees both layers of a tunnel: of IPIP in one block, of WireGuard, whose packets
// show nothing of what is inside, in the blocks before and behind it, which share the
// packet's id; and a death says what it was inside.
func TestTsharkTunnels(t *testing.T) {
	inner := bytesOf(t, syn4)
	outer := func(proto byte, payload []byte) []byte {
		ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0, 172, 30, 0, 1, 172, 30, 0, 2}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(payload)))
		return append(append(bytesOf(t, macs+"0800"), ip...), payload...)
	}
	data := append([]byte{4, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 80)...) // type, receiver, counter
	udp := append([]byte{0xca, 0x6c, 0xca, 0x6c, 0, byte(8 + len(data)), 0, 0}, data...)
	framed := func(link uint16, b []byte) *model.Frame {
		return &model.Frame{LinkType: link, Bytes: b, Length: uint32(len(b))}
	}
	through := func(id uint64, kind, device string, port uint16, wire []byte) *model.Packet {
		p := diedWith(id, nil)
		tunnel := &model.Tunnel{Kind: kind, Src: netip.MustParseAddr("172.30.0.1"), SrcPort: port, Dst: netip.MustParseAddr("172.30.0.2"), DstPort: port}
		p.Hops = []model.Hop{
			{Stage: model.StageTransmit, Netns: 10, Place: "node", Interface: device, IfIndex: 7, Frame: framed(linkRaw, inner), Length: 60},
			{Stage: model.StageEncapsulate, Netns: 10, Place: "node", Interface: device, IfIndex: 7, Frame: framed(linkRaw, inner), Length: 60, Tunnel: tunnel},
			{Stage: model.StageDrop, Netns: 10, Place: "node", Interface: "eth0", IfIndex: 2, Frame: framed(1, wire), Length: uint32(len(wire)), Hook: "OUTPUT"},
		}
		p.Drop.Tunnel, p.Drop.Hook, p.Drop.Interface, p.Drop.IfIndex = tunnel, "OUTPUT", "eth0", 2
		return p
	}
	objects := []any{made(), through(1, "ipip", "tunl0", 0, outer(4, inner)), through(2, "wireguard", "wireguard.cali", 51820, outer(17, udp)), &model.Summary{}}
	says := file(t, Options{All: true}, objects...)
	var got []string
	for _, row := range fields(t, says, "frame.packet_id", "frame.interface_name", "ip.src", "tcp.dstport", "wg.type") {
		got = append(got, strings.Join(row, " "))
	}
	want := []string{
		"1 tunl0 10.0.0.1 80 ", "1 tunl0 10.0.0.1 80 ", "1 eth0 172.30.0.1|10.0.0.1 80 ",
		"2 wireguard.cali 10.0.0.1 80 ", "2 wireguard.cali 10.0.0.1 80 ", "2 eth0 172.30.0.1  4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	for i, row := range fields(t, file(t, Options{}, objects...), "frame.comment") {
		want := []string{"inside ipip, outer 172.30.0.1 > 172.30.0.2", "inside wireguard, outer 172.30.0.1:51820 > 172.30.0.2:51820"}[i]
		if !strings.Contains(row[0], want) {
			t.Errorf("comment %q does not say %q", row[0], want)
		}
	}
}

// One interface whose packets have link-layer headers at one hop and none at
// another, or no bytes at all: each block has the link type of its interface.
func TestLinkTypes(t *testing.T) {
	p := diedWith(1, nil)
	ip := bytesOf(t, syn4)
	for _, frame := range []*model.Frame{{LinkType: linkRaw, Bytes: ip, Length: 60}, {LinkType: 1, Bytes: bytesOf(t, macs+"0800"+syn4), Length: 74}, nil} {
		p.Hops = append(p.Hops, model.Hop{Stage: model.StageTransmit, Netns: 10, Place: "node", Interface: "cali1", IfIndex: 4, Frame: frame, Length: 60})
	}
	rows := fields(t, file(t, Options{All: true, SnapLen: 40}, made(), p, &model.Summary{}), "frame.interface_id", "frame.encap_type", "frame.cap_len", "frame.len", "ip.src")
	want := []string{"1 1 0 60 ", "2 7 40 60 10.0.0.1", "1 1 40 74 10.0.0.1", "1 1 0 60 ", "1 1 0 60 "}
	var got []string
	for _, row := range rows {
		got = append(got, strings.Join(row, " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// The losses and tc's verdict stand where wireshark looks for them.
func TestLossesAndVerdict(t *testing.T) {
	lost := uint64(0)
	var m memory
	w := New(&m, Options{Late: &m, Lost: func() uint64 { return lost }})
	p := diedWith(2, nil)
	p.Drop.Reason, p.Lost = "TC_INGRESS", true
	send(t, w, made(), diedWith(1, nil))
	lost = 5
	send(t, w, p, diedWith(3, nil), &model.Summary{LostEvents: 5})
	rows := fields(t, m.data, "frame.drop_count", "frame.verdict.ebpf_tc", "frame.comment")
	if len(rows) != 3 {
		t.Fatalf("%q", rows)
	}
	for i, want := range []string{" ", "5 2", " "} {
		if got := strings.Join(rows[i][:2], " "); got != want {
			t.Errorf("packet %d: %q, want %q", i+1, got, want)
		}
	}
	if !strings.Contains(rows[1][2], `events were lost`) {
		t.Errorf("comment: %s", rows[1][2])
	}
}

// A pipe cannot be written to again: what is known last stands last.
func TestPipeCarriesTheVerdictAtItsEnd(t *testing.T) {
	var out bytes.Buffer
	objects := []any{made(), diedWith(1, nil), &model.Finding{Code: "mtu", Confidence: "likely", Packets: []uint64{1}, Summary: "too long", Evidence: []string{}}, &model.Summary{MissedHooks: []model.MissedHook{}}}
	send(t, New(&out, Options{}), objects...)
	rows := fields(t, out.Bytes(), "frame.comment")
	if len(rows) != 1 || strings.Contains(rows[0][0], "FINDING") {
		t.Errorf("%q", rows)
	}
	if !bytes.Contains(out.Bytes(), []byte("FINDING mtu (likely): too long")) {
		t.Error("the finding is not in the interface's comment")
	}
	got, err := readBack(out.Bytes())
	if err != nil || got != lines(t, objects...) {
		t.Errorf("%v\n got %s\nwant %s", err, got, lines(t, objects...))
	}
}

// A trace in which nothing died has no packet blocks, and is a file all the same.
func TestNothingDied(t *testing.T) {
	data := file(t, Options{}, made(), &model.Summary{})
	if rows := fields(t, data, "frame.number"); len(rows) != 0 {
		t.Errorf("%q", rows)
	}
	if info := tool(t, data, "capinfos", "FILE"); !strings.Contains(info, "Number of packets:   0\n") {
		t.Errorf("capinfos: %s", info)
	}
}

// Texts that no option can hold are divided, and all of them is there.
func TestLongTexts(t *testing.T) {
	p := diedWith(1, nil)
	var words []string
	for i := range 20000 {
		words = append(words, fmt.Sprintf("wörd%05d", i))
	}
	p.Drop.Rule.Text = strings.Join(words, " ")
	p.Drop.Rule.Meaning = strings.Join(words, ",")
	objects := []any{made(), p, &model.Summary{MissedHooks: []model.MissedHook{}}}
	data := file(t, Options{}, objects...)
	rows := fields(t, data, "frame.comment")
	if len(rows) != 1 {
		t.Fatalf("%d packets", len(rows))
	}
	whole := strings.ReplaceAll(rows[0][0], "|", "") // between two comments
	for _, text := range []string{p.Drop.Rule.Text, p.Drop.Rule.Meaning} {
		if !strings.Contains(whole, text) {
			t.Error("a text is not there in full")
		}
	}
	got, err := readBack(data)
	if err != nil || got != lines(t, objects...) {
		t.Errorf("came back different: %v", err)
	}
}

// A finding that is certain early is seen in a file that never got its end.
func TestEarlyFinding(t *testing.T) {
	data := file(t, Options{}, made(), diedWith(1, nil), &model.Finding{Code: "mtu", Confidence: "certain", Packets: []uint64{1}, Summary: "too long", Live: true}, diedWith(2, nil))
	rows := fields(t, data, "frame.comment")
	if len(rows) != 2 || !strings.HasSuffix(rows[0][0], "|FINDING mtu (certain): too long") || strings.Contains(rows[1][0], "FINDING") {
		t.Errorf("%q", rows)
	}
}

// Names that mean harm or are no text: a line of a list stays a line.
func TestHostileNames(t *testing.T) {
	p := diedWith(1, nil)
	p.Drop.Interface, p.Drop.Place = "e\xff\x1b[31m", "a\nDROP b\x00c"
	p.Drop.Rule.Text = "-A x -m comment --comment \"\r\n#2 fine\x1b]0;x\a\" -j DROP"
	p.Hops[0].Stage, p.Hops[0].Place = model.StageDeliver, "a\x00b\n"
	data := file(t, Options{}, made(), p, &model.Summary{})
	rows := fields(t, data, "frame.packet_id", "frame.comment")
	want := `DROP NETFILTER_DROP filter/FORWARD rule 7 of cali-tw-cali1: -A x -m comment --comment "\r\n#2 fine\x1b]0;x\a" -j DROP\n#1 forward`
	if len(rows) != 1 || !strings.HasPrefix(rows[0][1], want) {
		t.Errorf("\n got %q\nwant %q", rows, want)
	}
	for _, raw := range []string{"\n#2 fine", "\x1b]0;x", "\nDROP b"} {
		if bytes.Contains(data, []byte(raw)) { // tshark shows a line's end as it shows a backslash and an n
			t.Errorf("%q is in the file", raw)
		}
	}
}
