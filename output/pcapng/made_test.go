// SPDX-License-Identifier: Apache-2.0

// made_test.go makes a small trace whose packets have bytes of every kind, for
// what the recorded ones do not show.

package pcapng

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/output/jsonl"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// noon is when the made-up trace begins; its nanoseconds are all different.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)

func made() *model.Start {
	return &model.Start{
		Time: noon, Version: "1.2.3", Kernel: "6.12.1", Backend: "fentry", Hooks: 24, Proto: "tcp", Port: 80,
		Src: model.End{Given: "client", Kind: "pod", Name: "client", Namespace: "default", Interface: "cali1", Netns: 11,
			Addresses: model.Prefixes{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::1/128")}},
		Dst: model.End{Given: "10.0.0.0/24", Kind: "cidr", Addresses: model.Prefixes{netip.MustParsePrefix("10.0.0.0/24")}},
	}
}

// died is a packet that died at its second hop, with these bytes there.
func diedWith(id uint64, frame *model.Frame) *model.Packet {
	rule := &model.Rule{Family: "ip", Table: "filter", Chain: "cali-tw-cali1", Number: 7, Text: "-A cali-tw-cali1 -m comment --comment \"Drop it\" -j DROP"}
	return &model.Packet{
		ID: id, Direction: model.Forward, Time: noon, Proto: "tcp", Src: netip.MustParseAddr("10.0.0.1"), SrcPort: 4000, Dst: netip.MustParseAddr("10.0.0.2"), DstPort: 80,
		TCPFlags: "S", Length: 60, Outcome: model.Dropped,
		Hops: []model.Hop{
			{Stage: model.StageReceive, Netns: 10, Place: "node", Interface: "cali1", IfIndex: 4, Frame: frame, Length: 60},
			{AtNS: 1001, Stage: model.StageDrop, Netns: 10, Place: "node", Interface: "cali1", IfIndex: 4, Frame: frame, Length: 60},
		},
		Drop: &model.Drop{Reason: "NETFILTER_DROP", Stage: model.StageNetfilter, Function: "nf_hook_slow+0x7d", Hook: "FORWARD", Family: "ip", Table: "filter",
			Rule: rule, RuleSource: model.RuleExact, Netns: 10, Place: "node", Interface: "cali1", IfIndex: 4},
	}
}

// file writes objects and gives the file.
func file(t testing.TB, opt Options, objects ...any) []byte {
	t.Helper()
	var m memory
	if opt.Late == nil {
		opt.Late = &m
	}
	send(t, New(&m, opt), objects...)
	return m.data
}

func send(t testing.TB, to model.Sink, objects ...any) {
	t.Helper()
	for _, object := range objects {
		var err error
		switch o := object.(type) {
		case *model.Start:
			err = to.Start(o)
		case *model.Packet:
			err = to.Packet(o)
		case *model.NodeEvent:
			err = to.Node(o)
		case *model.Finding:
			err = to.Finding(o)
		case *model.Summary:
			err = to.Summary(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func lines(t testing.TB, objects ...any) string {
	t.Helper()
	var out bytes.Buffer
	send(t, jsonl.New(&out), objects...)
	return out.String()
}

// bytesOf reads hexadecimal digits, blanks between them.
func bytesOf(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	macs = "0242c0a80002 0242c0a80001 "
	syn4 = "4500003c 00014000 40060000 0a000001 0a000002 0fa00050 00000001 00000000 a002faf0 00000000 020405b4 0402080a 00000001 00000000 01030307"
	syn6 = "60000000 00140640 fd000000 00000000 00000000 00000001 fd000000 00000000 00000000 00000002 0fa00050 00000001 00000000 5002faf0 00000000"
)

// vxlan puts a frame into a VXLAN datagram of VNI 4096.
func vxlan(inner []byte) []byte {
	udp := binary.BigEndian.AppendUint16([]byte{0x12, 0x34, 0x12, 0xb5}, uint16(16+len(inner)))
	udp = append(append(udp, 0, 0, 8, 0, 0, 0, 0, 0x10, 0, 0), inner...)
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 192, 168, 0, 1, 192, 168, 0, 2}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(udp)))
	return append(append([]byte{2, 0x42, 0, 0, 0, 2, 2, 0x42, 0, 0, 0, 1, 8, 0}, ip...), udp...)
}
