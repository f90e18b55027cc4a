// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
)

// TestRingWait: a wait ends with its time, when it is woken, before it began too,
// and when something comes.
func TestRingWait(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a BPF map")
	}
	events, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	w, err := newRingWait(events)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	reader, err := ringbuf.NewReader(events)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	something := func() bool { return reader.AvailableBytes() > 0 }
	const short, long = 50 * time.Millisecond, 10 * time.Second
	took := func(d time.Duration) time.Duration {
		began := time.Now()
		if err := w.wait(something, d); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	if got := took(short); got < short || got > long/2 {
		t.Errorf("nothing came: waited %v instead of %v", got, short)
	}
	w.wake()
	if got := took(long); got > long/2 {
		t.Errorf("woken before: waited %v", got)
	}
	time.AfterFunc(short, w.wake)
	if got := took(long); got < short/2 || got > long/2 {
		t.Errorf("woken: waited %v", got)
	}
	took(short) // what woke it may do so once more
	if got := took(short); got < short || got > long/2 {
		t.Errorf("once woken: waited %v instead of %v", got, short)
	}
	write := writer(t, events)
	time.AfterFunc(short, write)
	if got := took(long); got < short/2 || got > long/2 {
		t.Errorf("something came: waited %v", got)
	}
	if !something() {
		t.Error("it is not there")
	}
	if got := took(long); got > long/2 {
		t.Errorf("something was there: waited %v", got)
	}
}

// writer gives a function that puts eight bytes into a ring buffer.
func writer(t *testing.T, events *ebpf.Map) func() {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, events.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R3, 8),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return func() {
		if got, err := prog.Run(&ebpf.RunOptions{Data: make([]byte, 14)}); err != nil || got != 0 {
			t.Errorf("write to the ring buffer: %d, %v", int32(got), err)
		}
	}
}
