// SPDX-License-Identifier: Apache-2.0

package nft

// Reading while others write, reading in part, and searching sets as the kernel
// does.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestReadWhileOthersCommit(t *testing.T) {
	script, err := os.ReadFile("testdata/rulesets/kube-proxy-nftables.nft")
	if err != nil {
		t.Fatal(err)
	}
	s := newSpace(t, string(script)+"\ntable ip busy { chain c { counter; }; chain d { counter; }; }\n")
	// Each commit replaces the rules of both chains: they have the same number
	// of rules, or a read saw half a commit.
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	first := s.read().Generation
	done := make(chan error)
	go func() { done <- commit(ctx, s.Name("n")) }()
	var reads, busy int
	var last uint32
	for ctx.Err() == nil {
		var rs *Ruleset
		var err error
		s.do(func() error { rs, err = Read(t.Context()); return nil })
		if errors.Is(err, ErrBusy) {
			busy++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		reads, last = reads+1, rs.Generation
		c, d := rs.Chain("ip", "busy", "c"), rs.Chain("ip", "busy", "d")
		if len(c.Rules) != len(d.Rules) {
			t.Fatalf("chains of %d and %d rules: half a commit was read", len(c.Rules), len(d.Rules))
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if reads < 3 || last-first < 20 {
		t.Errorf("%d reads and %d commits are too few to tell", reads, last-first)
	}
	t.Logf("%d reads, %d given up, %d commits", reads, busy, last-first)
}

// commit changes two chains at once, again and again: each line that nft reads is
// a commit.
func commit(ctx context.Context, netns string) error {
	cmd := exec.Command("ip", "netns", "exec", netns, "nft", "-i")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for n := 0; ctx.Err() == nil; n++ {
		line := "flush chain ip busy c; flush chain ip busy d"
		for range n%7 + 1 {
			line += "; add rule ip busy c tcp dport { 1, 2 } counter; add rule ip busy d tcp dport { 1, 2 } counter"
		}
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			return errors.Join(err, cmd.Wait())
		}
		time.Sleep(5 * time.Millisecond)
	}
	_, err = io.WriteString(in, "quit\n")
	return errors.Join(err, in.Close(), cmd.Wait())
}

func TestRefresh(t *testing.T) {
	s := newSpace(t, "table ip a { chain c { accept; }\n}\ntable ip b { chain c { tcp dport { 1, 2 } drop; }\n}\n")
	old := s.read()
	refresh := func(from *Ruleset) *Ruleset {
		var rs *Ruleset
		s.do(func() (err error) { rs, err = from.Refresh(t.Context()); return err })
		return rs
	}
	if same := refresh(old); same != old {
		t.Error("nothing changed, but it was read again")
	}
	s.In("n", "nft add rule ip b c udp dport 5 accept", "nft add rule ip a c drop")
	if all := refresh(old); all.Count() != 4 || all.Generation == old.Generation {
		t.Errorf("%d rules at generation %d after a refresh, want 4", all.Count(), all.Generation)
	}
	s.In("n", "nft delete table ip b")
	if gone := refresh(old); gone.Table("ip", "b") != nil || gone.Table("ip", "a") == nil {
		t.Errorf("a deleted table is still there: %+v", gone.Tables)
	}
}

func TestReadCancelled(t *testing.T) {
	s := newSpace(t, "table ip a { }\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.do(func() error {
		if _, err := Read(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		return nil
	})
}

// TestFindAgreesWithTheKernel asks the kernel for elements (nft get element) and
// the package for the same keys.
func TestFindAgreesWithTheKernel(t *testing.T) {
	s := newSpace(t, `table ip t {
	set exact { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.9 } }
	set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/24, 10.1.0.5-10.1.0.9, 255.255.255.0/24 } }
	set ports { type inet_service; flags interval; elements = { 0-9, 80, 1024-65535 } }
	set pairs { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80, 10.0.0.2 . 443 } }
	set ranges { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/24 . 80-90, 10.9.9.9 . 1 } }
}`)
	rs := s.read()
	key := func(ip string, ports ...int) []byte {
		var b []byte
		if ip != "" {
			var a [4]int
			if _, err := fmt.Sscanf(ip, "%d.%d.%d.%d", &a[0], &a[1], &a[2], &a[3]); err != nil {
				t.Fatal(err)
			}
			for _, v := range a {
				b = append(b, byte(v))
			}
		}
		for _, p := range ports {
			b = append(b, byte(p>>8), byte(p))
			if ip != "" {
				b = append(b, 0, 0)
			}
		}
		return b
	}
	var asked int
	ask := func(set, text string, k []byte) {
		err := exec.Command("ip", "netns", "exec", s.Name("n"), "nft", "get", "element", "ip", "t", set, "{ "+text+" }").Run()
		if got, want := rs.Table("ip", "t").Set(set).Contains(k), err == nil; got != want {
			t.Errorf("%s in @%s: %v, the kernel says %v", text, set, got, want)
		}
		asked++
	}
	for _, ip := range []string{"10.0.0.1", "10.0.1.0", "10.1.0.9", "10.1.0.10", "255.255.255.255"} {
		ask("exact", ip, key(ip))
		ask("nets", ip, key(ip))
		for _, port := range []int{80, 90, 91} {
			text := fmt.Sprintf("%s . %d", ip, port)
			ask("pairs", text, key(ip, port))
			ask("ranges", text, key(ip, port))
		}
	}
	for _, port := range []int{0, 10, 80, 65535} {
		ask("ports", fmt.Sprint(port), key("", port))
	}
	t.Logf("%d keys", asked)
}

func BenchmarkRead(b *testing.B) {
	script, err := os.ReadFile("testdata/rulesets/kube-proxy-nftables-300.nft")
	if err != nil {
		b.Fatal(err)
	}
	s := newSpace(b, string(script))
	s.do(func() error {
		for b.Loop() {
			rs, err := Read(b.Context())
			if err != nil {
				return err
			}
			b.ReportMetric(float64(rs.Count()), "rules")
		}
		return nil
	})
}
