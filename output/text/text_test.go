// SPDX-License-Identifier: Apache-2.0

// text_test.go compares whole traces, made by hand, with how they are meant to
// read (testdata/*.txt). `go test ./output/text -update` writes them anew: look
// at the difference before believing it.

package text

import (
	"bytes"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	client = netip.MustParseAddr("10.244.1.5")
	server = netip.MustParseAddr("10.244.1.6")
	remote = netip.MustParseAddr("10.244.2.9")
	svc    = netip.MustParseAddr("10.96.0.10")
	noon   = time.Date(2025, 6, 3, 12, 0, 0, 123456789, time.UTC)
)

// trace is a list of objects as the tracer would send them.
type trace []any

func (tr trace) play(t *testing.T, s model.Sink) {
	t.Helper()
	for _, object := range tr {
		var err error
		switch o := object.(type) {
		case *model.Start:
			err = s.Start(o)
		case *model.Packet:
			err = s.Packet(o)
		case *model.NodeEvent:
			err = s.Node(o)
		case *model.Finding:
			err = s.Finding(o)
		case *model.Summary:
			err = s.Summary(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func start() *model.Start {
	return &model.Start{
		Version: "0.1.0", Kernel: "6.12.107", Backend: "fentry", Hooks: 24, AttachMS: 312.4,
		Src: model.End{
			Given: "10.244.1.5", Kind: "address", Name: "client", Namespace: "default",
			Addresses: model.Prefixes{netip.PrefixFrom(client, 32)}, Interface: "cali1a2b3c4d5e6",
			Netns: 4026532301, ResolvedBy: "route of the node",
		},
		Dst:   model.End{Given: "10.244.1.6", Kind: "address", Addresses: model.Prefixes{netip.PrefixFrom(server, 32)}, Interface: "cali0987654321f"},
		Proto: "tcp", Port: 80,
		RuleSets: &model.RuleSets{Legacy: 312, NFT: 45},
	}
}

func tcp(id uint64, dir model.Direction, flags string, sport uint16) *model.Packet {
	p := &model.Packet{
		ID: id, Direction: dir, Time: noon.Add(time.Duration(id) * time.Millisecond), Proto: "tcp", Length: 60, TCPFlags: flags,
		Src: client, SrcPort: sport, Dst: server, DstPort: 80, Outcome: model.Delivered,
	}
	if dir == model.Return {
		p.Src, p.SrcPort, p.Dst, p.DstPort = server, 80, client, sport
	}
	return p
}

// podToPod is the way between two pods of one Calico node.
func podToPod(p *model.Packet, ct string) *model.Packet {
	from, to, in, out := "default/client", "default/server", "cali1a2b3c4d5e6", "cali0987654321f"
	if p.Direction == model.Return {
		from, to, in, out = to, from, out, in
	}
	nf := func(ns int64, iface, hook, table string) model.Hop {
		return model.Hop{AtNS: ns, Stage: model.StageNetfilter, Netns: 1, Place: "node", Interface: iface, Hook: hook,
			Table: table, Backend: "legacy", Verdict: "accept", Function: "ipt_do_table", SKB: "ffff888101b2c300", CPU: 1}
	}
	p.Hops = []model.Hop{
		{AtNS: 0, Stage: model.StageTransmit, Netns: 2, Place: from, Interface: "eth0", Function: "net_dev_start_xmit", SKB: "ffff888101b2c300", Length: 74},
		{AtNS: 3100, Stage: model.StageReceive, Netns: 1, Place: "node", Interface: in, Function: "netif_receive_skb", SKB: "ffff888101b2c300", Length: 60},
		nf(4200, in, "PREROUTING", "raw"),
		{AtNS: 5000, Stage: model.StageConntrack, Netns: 1, Place: "node", Interface: in, CTState: ct, Function: "nf_conntrack_in"},
		nf(5200, in, "PREROUTING", "mangle"),
		nf(6100, in, "PREROUTING", "nat"),
		nf(6300, in, "PREROUTING", ""),
		{AtNS: 7000, Stage: model.StageRoute, Netns: 1, Place: "node", Interface: in, Route: &model.Route{Type: "unicast", Table: 254, Interface: out}},
		{AtNS: 8000, Stage: model.StageForward, Netns: 1, Place: "node", Interface: in, Function: "ip_forward"},
		nf(8400, in, "FORWARD", "mangle"),
		nf(9400, in, "FORWARD", "filter"),
		nf(9500, in, "FORWARD", ""),
		nf(11000, out, "POSTROUTING", "mangle"),
		nf(11500, out, "POSTROUTING", "nat"),
		{AtNS: 13000, Stage: model.StageNeighbor, Netns: 1, Place: "node", Interface: out, Neighbor: &model.Neighbor{Address: p.Dst.String(), State: "reachable"}},
		{AtNS: 14000, Stage: model.StageTransmit, Netns: 1, Place: "node", Interface: out, Function: "net_dev_start_xmit", Mark: 0x10000},
		{AtNS: 16000, Stage: model.StageReceive, Netns: 3, Place: to, Interface: "eth0", Function: "netif_receive_skb"},
		nf(17000, "eth0", "INPUT", ""),
		{AtNS: 18000, Stage: model.StageDeliver, Netns: 3, Place: to, Interface: "eth0", Function: "tcp_v4_rcv"},
	}
	p.Hops[17].Place, p.Hops[17].Netns = to, 3
	p.Hops[10].Rules = []model.Rule{{Table: "filter", Chain: "FORWARD", Number: 1, Text: `-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD`}}
	return p
}

// dropAtForward ends the packet in the filter table of FORWARD.
func dropAtForward(p *model.Packet) *model.Packet {
	in := "cali0987654321f"
	if p.Direction == model.Forward {
		in = "cali1a2b3c4d5e6"
	}
	p.Outcome = model.Dropped
	p.Hops = p.Hops[:11]
	p.Hops[10].Verdict = "drop"
	rule := model.Rule{Family: "ip", Table: "filter", Chain: "FORWARD", Number: 2, Text: "-A FORWARD -s 10.244.1.6/32 -p tcp -m tcp --sport 80 -m comment --comment \"no answers from the server, please\" -j DROP"}
	p.Hops[10].Rules = []model.Rule{rule}
	p.Hops = append(p.Hops,
		model.Hop{AtNS: 9450, Stage: model.StageNetfilter, Netns: 1, Place: "node", Interface: in, Hook: "FORWARD", Verdict: "drop", Result: "EPERM", Function: "nf_hook_slow"},
		model.Hop{AtNS: 9600, Stage: model.StageDrop, Netns: 1, Place: "node", Interface: in, Function: "kfree_skb"})
	p.Drop = &model.Drop{
		Reason: "NETFILTER_DROP", Function: "nf_hook_slow+0x6a", Hook: "FORWARD", Family: "ip", Table: "filter", Chain: "FORWARD",
		Backend: "legacy", Rule: &rule, RuleSource: model.RuleExact, Interface: in, Netns: 1, Place: "node",
		Stack: []string{"0xffffffffc003620f", "bpf_trace_run4+0xfc", "sk_skb_reason_drop+0x90", "nf_hook_slow+0x6a", "ip_forward+0x4a1", "ip_rcv+0x5e", "__netif_receive_skb_one_core+0x91", "process_backlog+0x8e"},
	}
	return p
}

func echo(id uint64, dir model.Direction, seq uint16) *model.Packet {
	p := podToPod(tcp(id, dir, "", 0), "established")
	p.Proto, p.SrcPort, p.DstPort, p.ICMP, p.ICMPID, p.ICMPSeq, p.Length = "icmp", 0, 0, "echo-request", 77, seq, 84
	if dir == model.Return {
		p.ICMP = "echo-reply"
	}
	p.Hops[len(p.Hops)-1].Function = "icmp_rcv"
	return p
}

func healthyTCP() trace {
	return trace{
		start(),
		podToPod(tcp(1, model.Forward, "S", 41230), "new"),
		podToPod(tcp(2, model.Return, "S.", 41230), "established-reply"),
		podToPod(tcp(3, model.Forward, ".", 41230), "established"),
		podToPod(tcp(4, model.Forward, "P.", 41230), "established"),
		podToPod(tcp(5, model.Return, "P.", 41230), "established-reply"),
		&model.Summary{Forward: model.Counts{Seen: 3, Delivered: 3}, Return: model.Counts{Seen: 2, Delivered: 2}, DurationMS: 2310},
	}
}

func returnDrop() trace {
	tr := trace{start(), podToPod(tcp(1, model.Forward, "S", 41230), "new")}
	for id := uint64(2); id <= 4; id++ {
		tr = append(tr, dropAtForward(podToPod(tcp(id, model.Return, "S.", 41230), "established-reply")))
	}
	return append(tr, &model.Summary{
		Forward: model.Counts{Seen: 1, Delivered: 1}, Return: model.Counts{Seen: 3, Dropped: 3}, DurationMS: 10230,
		MissedHooks: []model.MissedHook{{Hook: "fib_validate_source", Why: "this kernel's verifier refuses functions of more than 5 arguments"}},
	})
}

func natService() trace {
	p := podToPod(tcp(1, model.Forward, "S", 41230), "new")
	p.Dst, p.DstPort = svc, 80
	before := &model.Endpoints{Src: client, SrcPort: 41230, Dst: svc, DstPort: 80}
	after := &model.Endpoints{Src: client, SrcPort: 41230, Dst: server, DstPort: 8080}
	nat := model.Hop{AtNS: 6150, Stage: model.StageNAT, Netns: 1, Place: "node", Interface: "cali1a2b3c4d5e6", Before: before, After: after}
	p.Hops = append(p.Hops[:6:6], append([]model.Hop{nat}, p.Hops[6:]...)...)
	s := start()
	s.Dst = model.End{Given: "any", Kind: "any"}
	return trace{s, p, &model.Summary{Forward: model.Counts{Seen: 1, Delivered: 1}, DurationMS: 400}}
}

func vxlan() trace {
	p := podToPod(tcp(1, model.Forward, "S", 41230), "new")
	p.Dst, p.Outcome = remote, model.LeftNode
	p.Hops = p.Hops[:13]
	p.Hops[7].Route = &model.Route{Type: "unicast", Gateway: "10.244.2.0", Interface: "vxlan.calico"}
	node := func(ns int64, stage model.Stage, iface string) model.Hop {
		return model.Hop{AtNS: ns, Stage: stage, Netns: 1, Place: "node", Interface: iface}
	}
	encap := node(15000, model.StageEncapsulate, "vxlan.calico")
	encap.Tunnel = &model.Tunnel{Kind: "vxlan", VNI: 4096, Src: netip.MustParseAddr("192.168.77.11"), SrcPort: 50123,
		Dst: netip.MustParseAddr("192.168.77.12"), DstPort: 4789}
	output := node(16000, model.StageNetfilter, "eth0")
	output.Hook, output.Family, output.Table, output.Backend, output.Verdict = "OUTPUT", "inet", "guard", "nft", "accept"
	neigh := node(17000, model.StageNeighbor, "eth0")
	neigh.Neighbor = &model.Neighbor{Address: "192.168.77.12", State: "incomplete"}
	p.Hops = append(p.Hops, node(14000, model.StageTransmit, "vxlan.calico"), encap, output, neigh, node(18000, model.StageTransmit, "eth0"))
	return trace{start(), p, &model.Summary{Forward: model.Counts{Seen: 1, LeftNode: 1}, DurationMS: 1000}}
}

func nothing() trace {
	return trace{start(), &model.Summary{DurationMS: 10000}}
}

// folding: a ping that fares well, then not, then well again.
func folding() trace {
	s := start()
	s.Proto, s.Port = "icmp", 0
	tr := trace{s}
	id := uint64(0)
	next := func(dir model.Direction, seq uint16) *model.Packet { id++; return echo(id, dir, seq) }
	seq := uint16(0)
	round := func(n int) {
		for range n {
			seq++
			tr = append(tr, next(model.Forward, seq), next(model.Return, seq))
		}
	}
	round(4)
	for range 3 {
		seq++
		tr = append(tr, dropAtForward(next(model.Forward, seq)))
	}
	round(3)
	return append(tr, &model.Summary{Forward: model.Counts{Seen: 10, Delivered: 7, Dropped: 3}, Return: model.Counts{Seen: 7, Delivered: 7}, DurationMS: 10000})
}

// odds has one of everything that must never be folded away or hidden.
func odds() trace {
	s := start()
	s.Backend, s.Hooks, s.Kernel = "tracepoint", 11, "6.18.5"
	s.Src.Addresses = append(s.Src.Addresses, netip.MustParsePrefix("fd00:10:244::5/128"), netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("fe80::/64"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32"))
	route := podToPod(tcp(1, model.Forward, "S", 41230), "new")
	route.Outcome = model.Dropped
	route.Hops = route.Hops[:8]
	route.Hops[7].Route = &model.Route{Type: "blackhole", Table: 52, Error: "EINVAL"}
	route.Drop = &model.Drop{Reason: "IP_INNOROUTES", Function: "ip_rcv_finish_core.constprop.0+0x1a2", Place: "node", Interface: "cali1a2b3c4d5e6"}

	answered := podToPod(tcp(2, model.Forward, "S", 41231), "new")
	answered.Outcome = model.Rejected
	answered.Hops[18] = model.Hop{AtNS: 18000, Stage: model.StageAnswer, Netns: 3, Place: "default/server", Interface: "eth0", Answer: "tcp-reset", Function: "tcp_v4_send_reset"}
	answered.Drop = &model.Drop{Reason: "NO_SOCKET", Function: "tcp_v4_rcv+0x9a", Netns: 3, Place: "default/server", Interface: "eth0"}

	inferred := dropAtForward(podToPod(tcp(3, model.Forward, "S", 41232), "invalid"))
	inferred.Lost = true
	inferred.Drop.RuleSource, inferred.Drop.Backend, inferred.Drop.Family, inferred.Drop.Table = model.RuleInferred, "nft", "inet", "guard"
	inferred.Drop.Rule = &model.Rule{Family: "inet", Table: "guard", Chain: "fwd", Number: 3, Handle: 17, Text: "ct state invalid drop # handle 17"}

	which := dropAtForward(podToPod(tcp(4, model.Forward, "S", 41233), "new"))
	which.Drop.Rule, which.Drop.RuleSource, which.Drop.Table, which.Drop.Chain, which.Drop.Backend = nil, "", "", "", ""
	which.Drop.Candidates = model.Candidates{{Function: "legacy filter"}, {Function: "nft ip filter"}}

	full := podToPod(tcp(5, model.Forward, ".", 41234), "established")
	full.Outcome = model.Unknown
	full.Hops = full.Hops[:16]
	full.Hops[15] = model.Hop{AtNS: 14000, Stage: model.StageQdisc, Netns: 1, Place: "node", Interface: "cali0987654321f", Result: "NET_XMIT_DROP", Copy: 1}
	full.Hops[14].Neighbor.State = "failed"

	nasty := podToPod(tcp(6, model.Forward, "R", 41235), "established")
	nasty.Hops = nasty.Hops[:2]
	nasty.Hops[1].Interface = "x\x1b[2J\ty"
	nasty.Hops[1].Place, nasty.Hops[1].Netns = "", 4026532999
	nasty.Outcome = model.Dropped
	return trace{
		s, route, answered, inferred, which, full, nasty,
		&model.NodeEvent{Time: noon, What: "link-down", Object: "cali1a2b3c4d5e6", By: &model.By{PID: 4711, Comm: "ip"}, Text: "cali1a2b3c4d5e6 set DOWN by ip (pid 4711, started by bash (pid 4700)); its route 10.244.1.5/32 went with it"},
		&model.NodeEvent{Time: noon, What: "link-up", Object: "cali1a2b3c4d5e6", By: &model.By{PID: 4711, Comm: "ip"}, Text: "set UP"},
		&model.Finding{
			Code: "blackhole-route", Confidence: "certain", Direction: model.Forward, Packets: []uint64{1},
			Summary:  "The route of the pod 10.244.1.6 is missing, so Calico's blackhole for its block eats the packet.",
			Evidence: []string{"blackhole 10.244.1.0/26 proto 80", "no route 10.244.1.6 dev cali0987654321f"},
			Fix:      []string{"kubectl -n calico-system delete pod -l k8s-app=calico-node --field-selector spec.nodeName=node1"},
		},
		&model.Summary{
			Forward: model.Counts{Seen: 6, Dropped: 4, Rejected: 1, Unknown: 1}, LostEvents: 12, LostPackets: 1, LostFrames: 3, CutFrames: 2, DurationMS: 61500,
			MissedHooks: []model.MissedHook{{Hook: "nf_hook_slow"}, {Hook: "nft_do_chain", Why: "module nf_tables is not loaded"}},
		},
	}
}

func TestGolden(t *testing.T) {
	for name, tc := range map[string]struct {
		trace trace
		opt   Options
	}{
		"healthy-tcp":      {healthyTCP(), Options{}},
		"healthy-tcp-wide": {healthyTCP()[:2], Options{Wide: true}},
		"return-drop":      {returnDrop(), Options{}},
		"return-drop-80":   {returnDrop(), Options{Width: 80}},
		"return-drop-wide": {returnDrop(), Options{Wide: true, Width: 120}},
		"nat-service":      {natService(), Options{}},
		"vxlan":            {vxlan(), Options{}},
		"nothing-seen":     {nothing(), Options{}},
		"folding":          {folding(), Options{}},
		"odds":             {odds(), Options{}},
		"odds-color":       {odds(), Options{Color: true, Width: 80}},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			tc.trace.play(t, New(&got, tc.opt))
			compare(t, filepath.Join("testdata", name+".txt"), got.Bytes())
		})
	}
}

func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

// Everything but rule texts, evidence and fixes keeps within the width.
func TestWidth(t *testing.T) {
	for _, tr := range []trace{healthyTCP(), returnDrop(), natService(), vxlan(), nothing(), folding(), odds()} {
		var got bytes.Buffer
		tr.play(t, New(&got, Options{Width: 80}))
		for line := range strings.Lines(got.String()) {
			line = strings.TrimSuffix(line, "\n")
			long := strings.Contains(line, "-A ") || strings.Contains(line, "kubectl")
			if len(line) > 80 && !long {
				t.Errorf("%d columns: %q", len(line), line)
			}
			if strings.HasSuffix(line, " ") {
				t.Errorf("trailing space: %q", line)
			}
		}
	}
}

// Colours change nothing but colours.
func TestColorOnlyAdds(t *testing.T) {
	var with, without bytes.Buffer
	odds().play(t, New(&with, Options{Color: true}))
	odds().play(t, New(&without, Options{}))
	if strings.ContainsRune(without.String(), '\x1b') {
		t.Error("escape sequence in output without colour")
	}
	stripped := with.String()
	for {
		before, rest, found := strings.Cut(stripped, "\x1b[")
		if !found {
			break
		}
		_, after, _ := strings.Cut(rest, "m")
		stripped = before + after
	}
	if stripped != without.String() {
		t.Errorf("colour changes text:\n%s", stripped)
	}
}

// Two packets are the same story only if nothing that is told differs.
func TestStoryKey(t *testing.T) {
	same := func(change func(*model.Packet)) bool {
		a, b := podToPod(tcp(1, model.Forward, "P.", 40000), "established"), podToPod(tcp(2, model.Forward, ".", 50000), "established")
		change(b)
		return storyKey(a) == storyKey(b)
	}
	for name, tc := range map[string]struct {
		change func(*model.Packet)
		same   bool
	}{
		"another connection": {func(p *model.Packet) {}, true},
		"other times":        {func(p *model.Packet) { p.Hops[4].AtNS += 99; p.Hops[3].SKB = "ffff"; p.Length = 1500 }, true},
		"other port":         {func(p *model.Packet) { p.DstPort = 81 }, false},
		"other address":      {func(p *model.Packet) { p.Dst = remote }, false},
		"syn":                {func(p *model.Packet) { p.TCPFlags = "S" }, false},
		"reset":              {func(p *model.Packet) { p.TCPFlags = "R" }, false},
		"other interface":    {func(p *model.Packet) { p.Hops[5].Interface = "eth1" }, false},
		"other verdict":      {func(p *model.Packet) { p.Hops[5].Verdict = "drop" }, false},
		"other route":        {func(p *model.Packet) { p.Hops[7].Route = &model.Route{Type: "blackhole"} }, false},
		"older neighbour":    {func(p *model.Packet) { p.Hops[14].Neighbor = &model.Neighbor{Address: p.Dst.String(), State: "stale"} }, true},
		"failed neighbour":   {func(p *model.Packet) { p.Hops[14].Neighbor = &model.Neighbor{Address: p.Dst.String(), State: "failed"} }, false},
		"other ct state":     {func(p *model.Packet) { p.Hops[3].CTState = "invalid" }, false},
		"other outcome":      {func(p *model.Packet) { p.Outcome = model.Unknown }, false},
		"fewer hops":         {func(p *model.Packet) { p.Hops = p.Hops[1:] }, false},
		"a result":           {func(p *model.Packet) { p.Hops[3].Result = "ENOMEM" }, false},
	} {
		if got := same(tc.change); got != tc.same {
			t.Errorf("%s: same story %t, want %t", name, got, tc.same)
		}
	}
}

// What a story costs: every packet pays for its key, folded ones for no more.
func BenchmarkFoldedPacket(b *testing.B) {
	w := New(io.Discard, Options{})
	p := podToPod(tcp(1, model.Forward, ".", 40000), "established")
	for b.Loop() {
		if err := w.Packet(p); err != nil {
			b.Fatal(err)
		}
	}
}

// Whichever end serves, its port counts and the client's does not.
func TestServedPort(t *testing.T) {
	for name, tc := range map[string]struct {
		dir                          model.Direction
		sport, dport, sport2, dport2 uint16
		same                         bool
	}{
		"client asks":               {model.Forward, 40000, 80, 50000, 80, true},
		"client asks elsewhere":     {model.Forward, 40000, 80, 40000, 81, false},
		"server answers":            {model.Return, 80, 40000, 80, 50000, true},
		"--src is the server":       {model.Forward, 80, 40000, 80, 50000, true},
		"its client":                {model.Return, 40000, 80, 50000, 80, true},
		"privileged source":         {model.Forward, 500, 2049, 500, 2050, false},
		"source translated at will": {model.Forward, 5000, 80, 1700, 80, true},
		"both high":                 {model.Forward, 40000, 50000, 40000, 50001, false},
		"both high, other client":   {model.Forward, 40000, 50000, 40001, 50000, true},
	} {
		a, b := tcp(1, tc.dir, ".", 0), tcp(2, tc.dir, ".", 0)
		a.SrcPort, a.DstPort, b.SrcPort, b.DstPort = tc.sport, tc.dport, tc.sport2, tc.dport2
		if got := storyKey(a) == storyKey(b); got != tc.same {
			t.Errorf("%s: same story %t, want %t", name, got, tc.same)
		}
	}
}

// A folded packet writes nothing, and the memory of stories is bounded.
func TestFoldsAreQuietAndBounded(t *testing.T) {
	var got bytes.Buffer
	w := New(&got, Options{})
	for id := range uint64(3 * maxStories) {
		p := tcp(id+1, model.Forward, ".", 40000)
		p.DstPort = uint16(id % (maxStories + 100))
		if err := w.Packet(p); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.folds.told) > maxStories {
		t.Errorf("%d stories remembered, at most %d wanted", len(w.folds.told), maxStories)
	}
	before := 0
	for i := range 1000 {
		if err := w.Packet(tcp(99999, model.Forward, ".", 40000)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before = got.Len()
		}
	}
	if got.Len() != before {
		t.Errorf("folded packets wrote %q", got.String()[before:])
	}
}
