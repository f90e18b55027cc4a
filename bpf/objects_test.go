// SPDX-License-Identifier: Apache-2.0

package bpf

// The committed objects are what their Go half believes them to be.

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// objects are the committed ones.
var objects = []struct {
	name string
	load func() (*ebpf.CollectionSpec, error)
}{{"fentry", LoadFentry}, {"tracepoint", LoadTracepoint}}

// Both objects are compiled from the same headers: one set of Go types has to
// fit both, byte for byte.
func TestSharedTypesHaveTheKernelHalfsLayout(t *testing.T) {
	for _, o := range objects {
		spec, err := o.load()
		if err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		for _, c := range []struct {
			name string
			size uintptr
		}{
			{"event", unsafe.Sizeof(Event{})},
			{"event_table", unsafe.Sizeof(EventTable{})},
			{"event_route", unsafe.Sizeof(EventRoute{})},
			{"event_neigh", unsafe.Sizeof(EventNeigh{})},
			{"event_ct", unsafe.Sizeof(EventCt{})},
			{"event_drop", unsafe.Sizeof(EventDrop{})},
			{"event_module", unsafe.Sizeof(EventModule{})},
			{"frame", unsafe.Sizeof(Frame{})},
			{"tracked", unsafe.Sizeof(Tracked{})},
			{"tuple", unsafe.Sizeof(Tuple{})},
			{"tunnel", unsafe.Sizeof(Tunnel{})},
			{"filter", unsafe.Sizeof(Filter{})},
			{"end", unsafe.Sizeof(End{})},
			{"prefix", unsafe.Sizeof(Prefix{})},
			{"counters", unsafe.Sizeof(Counters{})},
		} {
			var s *btf.Struct
			if err := spec.Types.TypeByName(c.name, &s); err != nil {
				t.Errorf("%s: struct %s: %v", o.name, c.name, err)
				continue
			}
			if int(c.size) != int(s.Size) {
				t.Errorf("%s: struct %s has %d bytes, its Go half %d", o.name, c.name, s.Size, c.size)
			}
			if hole := holes(s); hole != "" {
				t.Errorf("%s: struct %s: %s", o.name, c.name, hole)
			}
		}
	}
}

// What tells of changes of the node has types of its own.
func TestChangeHasTheKernelHalfsLayout(t *testing.T) {
	spec, err := LoadNode()
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]uintptr{"change": unsafe.Sizeof(Change{}), "actor": unsafe.Sizeof(Actor{}), "agent_name": unsafe.Sizeof(AgentName{}), "node_counters": unsafe.Sizeof(NodeCounters{})} {
		var s *btf.Struct
		if err := spec.Types.TypeByName(name, &s); err != nil {
			t.Errorf("struct %s: %v", name, err)
			continue
		}
		if int(size) != int(s.Size) {
			t.Errorf("struct %s has %d bytes, its Go half %d", name, s.Size, size)
		}
		if hole := holes(s); hole != "" {
			t.Errorf("struct %s: %s", name, hole)
		}
	}
	var kinds *btf.Enum
	if err := spec.Types.TypeByName("change_kind", &kinds); err != nil {
		t.Fatal(err)
	}
	want := map[string]uint8{"CHANGE_LINK": ChangeLink, "CHANGE_ROUTE": ChangeRoute, "CHANGE_TABLE": ChangeTable, "CHANGE_SYSCTL": ChangeSysctl, "CHANGE_SIGNAL": ChangeSignal, "CHANGE_EXIT": ChangeExit}
	if len(kinds.Values) != len(want) {
		t.Errorf("%d kinds of changes, Go knows %d", len(kinds.Values), len(want))
	}
	for _, v := range kinds.Values {
		if got, ok := want[v.Name]; !ok || uint64(got) != v.Value {
			t.Errorf("%s is %d, its Go half %d", v.Name, v.Value, got)
		}
	}
}

// holes tells where the compiler put padding that the source does not show:
// such bytes go up to user space with whatever stood there, and keep equal
// map keys from being equal.
func holes(s *btf.Struct) string {
	at := uint32(0)
	for _, m := range s.Members {
		if m.Offset.Bytes() != at {
			return fmt.Sprintf("hole of %d bytes before %s", m.Offset.Bytes()-at, m.Name)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			return fmt.Sprintf("member %s: %v", m.Name, err)
		}
		at += uint32(size)
	}
	if at != s.Size {
		return fmt.Sprintf("hole of %d bytes at its end", s.Size-at)
	}
	return ""
}

func TestEnumsHaveTheGoHalfsValues(t *testing.T) {
	for _, o := range objects {
		spec, err := o.load()
		if err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		for enum, want := range map[string]map[string]uint64{
			"kind":         {"KIND_TRANSMIT": uint64(KindTransmit), "KIND_DROP": uint64(KindDrop), "KIND_END": uint64(KindEnd), "KIND_MODULE": uint64(KindModule)},
			"event_flag":   {"FLAG_TENTATIVE": uint64(FlagTentative), "FLAG_ENCAP": uint64(FlagEncap), "FLAG_ORIGIN": uint64(FlagOrigin)},
			"dir":          {"DIR_FORWARD": uint64(DirForward), "DIR_RETURN": uint64(DirReturn)},
			"tracked_flag": {"TRACKED_TENTATIVE": uint64(TrackedTentative), "TRACKED_DELIVERED": uint64(TrackedDelivered)},
			"fn":           {"FN_none": uint64(FentryFnFN_none), "FN_icmp6_send": uint64(FentryFnFN_icmp6Send), "FN_nf_hook_run_bpf": uint64(FentryFnFN_nfHookRunBpf)},
		} {
			var e *btf.Enum
			if err := spec.Types.TypeByName(enum, &e); err != nil {
				t.Errorf("%s: enum %s: %v", o.name, enum, err)
				continue
			}
			for _, v := range e.Values {
				if v.Value > 255 {
					t.Errorf("%s: %s is %d: events carry it in one byte", o.name, v.Name, v.Value)
				}
				if w, ok := want[v.Name]; ok && w != v.Value {
					t.Errorf("%s: %s is %d, its Go half %d", o.name, v.Name, v.Value, w)
				}
				delete(want, v.Name)
			}
			for name := range want {
				t.Errorf("%s: enum %s has no %s", o.name, enum, name)
			}
		}
	}
}

// What the loader sets and reads by name.
func TestObjectsHaveWhatTheLoaderNames(t *testing.T) {
	for _, o := range objects {
		spec, err := o.load()
		if err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		for _, v := range []string{"cfg", "has_drop_reason", "armed", "in_flight", "arrived", "stats"} {
			if spec.Variables[v] == nil {
				t.Errorf("%s: no variable %s", o.name, v)
			}
		}
		for _, m := range []string{"events", "skbs", "others"} {
			if spec.Maps[m] == nil {
				t.Errorf("%s: no map %s", o.name, m)
			}
		}
		for _, p := range spec.Programs {
			if !strings.Contains(p.License, "GPL") {
				t.Errorf("%s: program %s has license %q: the kernel keeps its helpers from it", o.name, p.Name, p.License)
			}
		}
	}
}

// Nothing of the machine that compiled them.
func TestObjectsNameNoBuildFolder(t *testing.T) {
	for name, object := range map[string][]byte{"fentry": _FentryBytes, "tracepoint": _TracepointBytes} {
		for _, word := range []string{"/work/", "/home/", "/root/", "/tmp/"} {
			if strings.Contains(string(object), word) {
				t.Errorf("%s: holds a path below %s", name, word)
			}
		}
	}
}
