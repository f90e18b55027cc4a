// SPDX-License-Identifier: Apache-2.0

// A flow faster than anybody reads: what is told must be true and belong
// together, and what could not be told must be counted, packet for packet.

package scenario

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/proc"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// floodPort is the flood's own: nothing else of the test's uses it.
const floodPort = traffic.FloodPort

// TestFlood traces a UDP flow of many packets a second and draws up the balance:
// what the sender sent, what the pod got and what was told.
func TestFlood(t *testing.T) {
	p := readPlan(t)
	e := newEnv(t, cluster.Options{Dataplane: p.oneOfEachKind(cluster.CalicoLegacy)[0]})
	spec := traffic.FloodSpec{Src: udp(0).Src, Dst: udp(0).Dst, Port: floodPort}
	spec.Rate = pick(p, 20000, 200)
	spec.Packets = spec.Rate * pick(p, 10, 5)
	ways := quietWays(t, p, e, spec)

	// every packet: more than can be read, so that events are lost
	t.Run("all", func(t *testing.T) { flood(t, p, e, spec, ways, "all") })
	// by default no event is: what is too much is left out on purpose
	t.Run("sampled", func(t *testing.T) {
		s := flood(t, p, e, spec, ways, "auto")
		if s.LostEvents != 0 {
			t.Errorf("%d events lost: packets should have been left out instead", s.LostEvents)
		}
	})
}

// flood traces one flood and draws up its balance.
func flood(t *testing.T, p plan, e *cluster.Env, spec traffic.FloodSpec, ways [][]station, sample string) *model.Summary {
	src, dst := ends(t, e, udp(0))
	tr := launchTrace(t, p, e, src, dst, "--proto", "udp", "--port", strconv.Itoa(floodPort), "--sample", sample)
	before := datagrams(t, e.Pod(spec.Dst).Netns)
	r, err := traffic.Flood(t.Context(), e, spec)
	if err != nil {
		t.Fatal(err)
	}
	arrived := datagrams(t, e.Pod(spec.Dst).Netns) - before
	peak, _, err := proc.Memory(tr.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	interrupted := time.Now()
	tr.signal(t, syscall.SIGINT)
	status := tr.wait(t, p.detach()+5*time.Second)
	t.Logf("flood: %+v, %.0f a second; UdpInDatagrams and UdpInErrors of the pod: %d; the trace ended %v after SIGINT", r, r.PPS(), arrived, time.Since(interrupted).Round(time.Millisecond))
	if arrived < r.Received+r.SocketDrops {
		t.Fatalf("the pod counted %d datagrams, the receiver %d: the test's own counts are wrong", arrived, r.Received+r.SocketDrops)
	}
	a := &audit{src: netip.MustParseAddr(src), dst: netip.MustParseAddr(dst), ways: ways, ids: map[uint64]bool{}}
	a.readAll(t, tr.stdout)
	if a.summary == nil {
		t.Fatalf("no summary told; exit status %d: %s", status, tr.errors(t))
	}
	t.Logf("told: %d packets (%d incomplete), summary %+v", a.packets, a.incomplete, *a.summary)
	a.balance(t, r, arrived)
	if want := a.summary.ExitStatus(); status != want {
		t.Errorf("exit status %d, want %d", status, want)
	}
	if sample == "auto" && !p.slow() {
		sparing(t, tr, time.Duration(a.summary.DurationMS)*time.Millisecond, peak)
	}
	return a.summary
}

// What a trace may take of this machine, whatever the rate of its flow: half a
// CPU while it runs and a second to start, with as much again for a machine that
// has others to serve; and so much memory at most.
const (
	sparingCPU    = 0.5
	sparingStart  = time.Second
	sparingMemory = 72 << 20 // bytes
)

// sparing wants a trace that has ended to have left the node to others.
func sparing(t *testing.T, tr *process, d time.Duration, peak int64) {
	t.Helper()
	took := tr.cmd.ProcessState.UserTime() + tr.cmd.ProcessState.SystemTime()
	if most := 2 * (sparingStart + time.Duration(sparingCPU*float64(d))); took > most {
		t.Errorf("a trace of %v took %v of a CPU, at most %v was wanted", d, took, most)
	}
	t.Logf("a trace of %v took %v of a CPU and %d KiB", d, took, peak>>10)
	if peak > sparingMemory {
		t.Errorf("a trace took up to %d KiB of memory, at most %d was wanted", peak>>10, sparingMemory>>10)
	}
}

// quietWays gives the ways that packets of the flow take through this node while
// there is time to see all of it.
func quietWays(t *testing.T, p plan, e *cluster.Env, spec traffic.FloodSpec) [][]station {
	t.Helper()
	src, dst := ends(t, e, udp(0))
	spec.Packets, spec.Rate = 20, 20
	tr := launchTrace(t, p, e, src, dst, "--proto", "udp", "--port", strconv.Itoa(floodPort))
	if r, err := traffic.Flood(t.Context(), e, spec); err != nil || r.Received != spec.Packets {
		t.Fatalf("quiet packets: %+v, %v", r, err)
	}
	settle(p)
	tr.signal(t, syscall.SIGINT)
	all := tr.verdict(t, p.detach())
	tr.wait(t, p.detach())
	if n := len(all.packets); n != spec.Packets {
		t.Fatalf("%d quiet packets told, want %d; summary %+v; %s", n, spec.Packets, all.summary, tr.errors(t))
	}
	var ways [][]station
	for _, pk := range all.packets {
		if pk.Outcome != model.Delivered {
			t.Fatalf("quiet, but told %s", tell(pk))
		}
		if way := wayOf(pk); !slices.ContainsFunc(ways, func(known []station) bool { return slices.Equal(known, way) }) {
			ways = append(ways, way)
			t.Logf("a quiet packet's way: %s", tell(pk))
		}
	}
	return ways
}

// station is what every hop has but the time, the buffer and the packet's own
// numbers.
type station struct {
	stage             model.Stage
	place, link, hook string
	table, verdict    string // table: with its chain
}

// isLike tells whether s, of a packet some of whose events were lost, can be
// the station of a whole packet: where it is not known which tables let a packet
// go on, its hook's own verdict alone is told.
func (s station) isLike(whole station) bool {
	if s.table == "" && s.hook != "" {
		whole.table = ""
	}
	return s == whole
}

// wayOf says where a packet was, in order, but for neighbours: whether one is
// asked depends on how lately it answered.
func wayOf(p model.Packet) []station {
	way := make([]station, 0, len(p.Hops))
	for _, h := range p.Hops {
		if h.Stage == model.StageNeighbor {
			continue
		}
		s := station{stage: h.Stage, place: h.Place, link: h.Interface, hook: h.Hook, verdict: h.Verdict}
		if h.Table != "" {
			s.table = h.Backend + " " + h.Family + " " + h.Table + " " + h.Chain
		}
		way = append(way, s)
	}
	return way
}

// datagrams reads how many UDP datagrams a namespace's sockets got or had no
// room for (/proc/net/snmp, net/ipv4/proc.c).
func datagrams(t *testing.T, ns *netns.Namespace) int {
	t.Helper()
	text, err := readInside(ns, "/proc/thread-self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Udp: "); ok {
			rows = append(rows, strings.Fields(rest))
		}
	}
	if len(rows) != 2 {
		t.Fatalf("/proc/net/snmp has %d lines on UDP, want names and values", len(rows))
	}
	sum := 0
	for i, name := range rows[0] {
		if name == "InDatagrams" || name == "InErrors" {
			n, err := strconv.Atoi(rows[1][i])
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// audit goes through what was told, packet by packet: there are too many to
// keep.
type audit struct {
	src, dst netip.Addr
	ways     [][]station

	ids                 map[uint64]bool
	packets, incomplete int
	delivered           int
	unread              int // dropped at the receiver's full socket
	summary             *model.Summary
	wrong               map[string]*flaw
}

// flaw is one kind of thing told wrong.
type flaw struct {
	count    int
	examples []string
}

const keepExamples = 3

// note books a packet that was told wrong.
func (a *audit) note(what string, p model.Packet) {
	if a.wrong == nil {
		a.wrong = map[string]*flaw{}
	}
	f := a.wrong[what]
	if f == nil {
		f = &flaw{}
		a.wrong[what] = f
	}
	if f.count++; len(f.examples) < keepExamples {
		f.examples = append(f.examples, tell(p))
	}
}

// packetLine begins the line of a packet: with hundreds of thousands of them
// each is decoded once only.
const packetLine = `{"type":"packet",`

// readAll reads a JSON trace line by line.
func (a *audit) readAll(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.HasPrefix(line, []byte(packetLine)) {
			var p model.Packet
			if err := json.Unmarshal(line, &p); err != nil {
				t.Fatalf("output line %q: %v", line, err)
			}
			a.packet(p)
		} else if kindOf(t, string(line)) == model.TypeSummary {
			if err := json.Unmarshal(line, &a.summary); err != nil {
				t.Fatalf("output line %q: %v", line, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// packet checks one packet.
func (a *audit) packet(p model.Packet) {
	a.packets++
	if a.ids[p.ID] {
		a.note("id told twice", p)
	}
	a.ids[p.ID] = true
	if p.Direction != model.Forward || p.Proto != "udp" || p.Src != a.src || p.Dst != a.dst || p.DstPort != floodPort {
		a.note("not of the flow", p)
	}
	if p.Drop != nil && p.Drop.Reason == "SOCKET_RCVBUFF" {
		a.unread++ // balance compares: the receiver may have been too slow
		return
	}
	if p.Outcome.Died() {
		a.note("told dead on a healthy node", p)
	}
	if p.Outcome == model.Delivered || p.Outcome == model.Consumed { // as model.Counts has it
		a.delivered++
	}
	way := wayOf(p)
	if p.Lost {
		a.incomplete++
		if !slices.ContainsFunc(a.ways, func(whole []station) bool { return partOf(way, whole) }) {
			a.note("incomplete, with hops that no packet has in this order or so often", p)
		}
		return
	}
	if p.Outcome == model.Unknown {
		a.note("end unknown, but not marked incomplete", p)
		return
	}
	if !slices.ContainsFunc(a.ways, func(whole []station) bool { return slices.Equal(way, whole) }) {
		a.note("not marked incomplete, but another way than a quiet packet's", p)
	}
}

// partOf tells whether all stations lie on a whole way, in its order, none more
// often than there.
func partOf(part, whole []station) bool {
	for _, s := range part {
		i := slices.IndexFunc(whole, s.isLike)
		if i < 0 {
			return false
		}
		whole = whole[i+1:]
	}
	return true
}

// balance compares what was told with what was sent and what arrived.
func (a *audit) balance(t *testing.T, r traffic.FloodResult, arrived int) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(a.wrong)) {
		f := a.wrong[what]
		t.Errorf("%d packets: %s, such as\n  %s", f.count, what, strings.Join(f.examples, "\n  "))
	}
	s := a.summary
	if s.Return.Seen != 0 {
		t.Errorf("%d replies told: there were none", s.Return.Seen)
	}
	if s.Forward.Seen != a.packets || s.Forward.Delivered != a.delivered {
		t.Errorf("summary counts %d packets, %d of them delivered; told were %d and %d", s.Forward.Seen, s.Forward.Delivered, a.packets, a.delivered)
	}
	missing := r.Sent - s.Forward.Seen - int(s.SampledOut)
	switch {
	case missing < 0:
		t.Errorf("%d packets sent, %d told: %d too many", r.Sent, s.Forward.Seen, -missing)
	case s.LostEvents == 0 && uint64(missing) != s.LostPackets:
		t.Errorf("%d packets sent, %d told, %d counted as lost: with no event lost that must be all, it is %d off", r.Sent, s.Forward.Seen, s.LostPackets, int64(s.LostPackets)-int64(missing))
	case uint64(missing) > s.LostPackets:
		t.Errorf("%d packets sent, %d told, %d counted as lost: %d are silently missing", r.Sent, s.Forward.Seen, s.LostPackets, uint64(missing)-s.LostPackets)
	}
	if s.LostEvents > 0 && a.incomplete == 0 && s.LostPackets == 0 {
		t.Errorf("%d events lost, but no packet is marked incomplete and none counted as lost", s.LostEvents)
	}
	if a.unread > r.SocketDrops {
		t.Errorf("%d packets told dropped at the full socket, which dropped %d", a.unread, r.SocketDrops)
	}
	came, unsure := s.Forward.Delivered+a.unread, int(s.LostPackets+s.SampledOut)+s.Forward.Unknown
	if came > arrived || came+unsure < arrived {
		t.Errorf("%d packets arrived, but %d were told to have, and %d lost or unknown", arrived, came, unsure)
	}
}
