// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"testing"
)

// The names must be the running kernel's own.
func TestDropReasonsOfThisKernel(t *testing.T) {
	k := open(t)
	d := k.DropReasons()
	want, err := k.EnumValue("skb_drop_reason", "SKB_DROP_REASON_NETFILTER_DROP")
	if errors.Is(err, ErrNotFound) {
		if d.Known() || d.Name(0) != NotSpecified || d.Name(77) != NotSpecified {
			t.Errorf("kernel without reasons: known %v, %q", d.Known(), d.Name(77))
		}
		return
	}
	code, ok := d.Code("NETFILTER_DROP")
	if !ok || uint64(code) != want || d.Name(code) != "NETFILTER_DROP" {
		t.Errorf("NETFILTER_DROP: %d %v %q, want %d", code, ok, d.Name(code), want)
	}
	if again, _ := d.Code("SKB_DROP_REASON_NETFILTER_DROP"); again != code {
		t.Errorf("with prefix: %d, want %d", again, code)
	}
	for _, marker := range []string{"MAX", "SUBSYS_MASK"} {
		if code, ok := d.Code(marker); ok {
			t.Errorf("marker %s is a reason: %d", marker, code)
		}
	}
	if got := d.Name(60000); got != "reason 60000" {
		t.Errorf("unknown core reason: %q", got)
	}
	if got := d.Name(0x7fff0003); got != "reason 2147418115" {
		t.Errorf("unknown subsystem's reason: %q", got)
	}
	if all := d.All(); all[code] != "NETFILTER_DROP" || len(all) < 10 {
		t.Errorf("%d reasons in all", len(all))
	}
}

func TestDropReasonNames(t *testing.T) {
	d := &DropReasons{kernel: &Kernel{}, has: true, names: map[uint32]string{}, codes: map[string]uint32{}, asked: map[uint32]bool{}}
	for _, v := range []struct {
		code uint32
		name string
		core bool
	}{
		{0, "SKB_NOT_DROPPED_YET", true},
		{1, "SKB_CONSUMED", true},
		{2, "SKB_DROP_REASON_NOT_SPECIFIED", true},
		{12, "SKB_DROP_REASON_NETFILTER_DROP", true},
		{128, "SKB_DROP_REASON_MAX", true},
		{0xffff0000, "SKB_DROP_REASON_SUBSYS_MASK", true},
		{1, "RX_CONTINUE", false}, // mac80211 reuses core numbers for its own ends
		{0x10001, "RX_DROP_U_MIC_FAIL", false},
		{0x20000, "__OVS_DROP_REASON", false},
		{0x20001, "OVS_DROP_LAST_ACTION", false},
		{0x2000b, "OVS_DROP_MAX", false},
		{0, "QDISC_DROP_UNSPEC", false},
		{0x30002, "QDISC_DROP_OVERLIMIT", false},
	} {
		d.put(v.code, v.name, v.core)
	}
	want := map[uint32]string{
		0: "NOT_DROPPED_YET", 1: "CONSUMED", 2: "NOT_SPECIFIED", 12: "NETFILTER_DROP",
		0x10001: "RX_DROP_U_MIC_FAIL", 0x20001: "OVS_DROP_LAST_ACTION", 0x30002: "QDISC_DROP_OVERLIMIT",
	}
	all := d.All()
	for code, name := range want {
		if all[code] != name {
			t.Errorf("%#x is %q, want %q", code, all[code], name)
		}
	}
	if len(all) != len(want) {
		t.Errorf("markers were taken for reasons: %v", all)
	}
	if none := (&DropReasons{}); none.Name(12) != NotSpecified {
		t.Errorf("kernel without the enum: %q", none.Name(12))
	}
}
