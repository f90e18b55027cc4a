// SPDX-License-Identifier: Apache-2.0

package xt

// What the differential tests stand on: a network namespace of their own, the
// real iptables-legacy in it, and a small reader of the kernel's tables (the
// product's own is package legacy).

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// chain is the user chain the rules are put in. Nothing jumps to it, so targets
// that belong to certain hooks only are taken too.
const chain = "T"

// node runs iptables-legacy of one family in a namespace of the test's own.
type node struct {
	t      *testing.T
	family string
	env    []string
}

// tool is the name of a legacy tool of the family, such as restore or save.
func (n node) tool(what string) string {
	if n.family == FamilyIPv6 {
		return "ip6tables-legacy-" + what
	}
	return "iptables-legacy-" + what
}

// run runs a command in the namespace.
func (n node) run(stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(n.t.Context(), name, args...)
	cmd.Stdin, cmd.Env = strings.NewReader(stdin), append(os.Environ(), n.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// add appends rules to the chain, in one go.
func (n node) add(table string, rules ...string) error {
	var input strings.Builder
	for _, rule := range rules {
		fmt.Fprintf(&input, "-A %s %s\n", chain, rule)
	}
	_, err := n.run(fmt.Sprintf("*%s\n%sCOMMIT\n", table, input.String()), n.tool("restore"), "--noflush")
	return err
}

// addAll appends the rules in their order and gives those that are refused. One
// bad rule spoils its whole batch, so a batch that fails is halved.
func (n node) addAll(table string, rules []string, refused func(rule string, err error)) {
	err := n.add(table, rules...)
	switch {
	case err == nil:
	case len(rules) == 1:
		refused(rules[0], err)
	default:
		n.addAll(table, rules[:len(rules)/2], refused)
		n.addAll(table, rules[len(rules)/2:], refused)
	}
}

// chains makes the chain in a table.
func (n node) chains(table string) {
	n.t.Helper()
	if _, err := n.run(fmt.Sprintf("*%s\n:%s -\nCOMMIT\n", table, chain), n.tool("restore"), "--noflush"); err != nil {
		n.t.Fatal(err)
	}
}

// saved is what the real tool prints for the chain's rules, without "-A T ".
func (n node) saved(table string) []string {
	n.t.Helper()
	out, err := n.run("", n.tool("save"), "-t", table)
	if err != nil {
		n.t.Fatal(err)
	}
	var rules []string
	for _, line := range strings.Split(out, "\n") {
		if rule, ok := strings.CutPrefix(line, "-A "+chain); ok {
			rules = append(rules, strings.TrimPrefix(rule, " "))
		}
	}
	return rules
}

// inNamespace moves the test to a new network namespace: its thread is never
// unlocked, so it ends with the test, and the namespace with it.
func inNamespace(t *testing.T, family string) node {
	t.Helper()
	n := node{t: t, family: family, env: []string{"XTABLES_LOCKFILE=" + filepath.Join(t.TempDir(), "lock")}}
	for _, what := range []string{"restore", "save"} {
		if _, err := exec.LookPath(n.tool(what)); err != nil {
			t.Skipf("no legacy iptables here: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace of its own")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	return n
}

// entries reads a table's rules as the kernel keeps them (struct ipt_getinfo,
// struct ipt_get_entries).
func (n node) entries(table string) []byte {
	n.t.Helper()
	domain, level := unix.AF_INET, unix.SOL_IP
	if n.family == FamilyIPv6 {
		domain, level = unix.AF_INET6, unix.SOL_IPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		n.t.Fatal(err)
	}
	defer unix.Close(fd)
	info := make([]byte, 84)
	copy(info, table)
	n.getsockopt(fd, level, 64, info)
	size := binary.NativeEndian.Uint32(info[80:])
	out := make([]byte, 40+size)
	copy(out, table)
	binary.NativeEndian.PutUint32(out[32:], size)
	n.getsockopt(fd, level, 65, out)
	return out[40:]
}

func (n node) getsockopt(fd, level, option int, value []byte) {
	n.t.Helper()
	size := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		n.t.Fatalf("getsockopt %d of level %d: %v", option, level, errno)
	}
}

// decoded prints the chain's rules with this package.
func (n node) decoded(entries []byte, sets SetNames) []string {
	n.t.Helper()
	var rules []string
	n.walk(entries, func(entry []byte, at, target int) { rules = append(rules, n.rule(entry, at, target, sets)) })
	return rules
}

// walk calls for each rule of the chain with where its matches begin and end.
func (n node) walk(entries []byte, rule func(entry []byte, at, target int)) {
	n.t.Helper()
	at, head := 88, 112 // of target_offset in struct ipt_entry, its size
	if n.family == FamilyIPv6 {
		at, head = 140, 168
	}
	var chained [][]byte
	inside := false
	for len(entries) > 0 {
		target := int(binary.NativeEndian.Uint16(entries[at:]))
		next := int(binary.NativeEndian.Uint16(entries[at+2:]))
		name, _, data := extension(entries[target:next])
		switch {
		case name == "ERROR":
			if inside { // what stood before was the chain's own RETURN
				chained = chained[:len(chained)-1]
			}
			inside = strings.TrimRight(string(data[:30]), "\x00") == chain
		case inside:
			chained = append(chained, entries[:next])
		}
		entries = entries[next:]
	}
	for _, entry := range chained {
		rule(entry, head, int(binary.NativeEndian.Uint16(entry[at:])))
	}
}

// decode decodes one entry; a standard verdict has no target.
func (n node) decode(entry []byte, at, target int, sets SetNames) oneRule {
	n.t.Helper()
	ctx := Context{Family: n.family, Sets: sets}
	e, err := DecodeEntry(n.family, entry)
	if err != nil {
		n.t.Fatal(err)
	}
	r := oneRule{entry: e}
	for at < target {
		name, rev, data := extension(entry[at:])
		r.matches = append(r.matches, DecodeMatch(ctx, name, rev, data))
		at += 32 + len(data)
	}
	if name, rev, data := extension(entry[target:]); name != "" {
		r.target = DecodeTarget(ctx, name, rev, data)
	}
	return r
}

// rule prints one entry.
func (n node) rule(entry []byte, at, target int, sets SetNames) string {
	n.t.Helper()
	r := n.decode(entry, at, target, sets)
	var parts []string
	if text := r.entry.Text(); text != "" {
		parts = append(parts, text)
	}
	for _, m := range r.matches {
		parts = append(parts, m.Text())
	}
	if text := r.target.Text(); text != "" {
		parts = append(parts, text)
	} else if _, _, data := extension(entry[target:]); int32(binary.NativeEndian.Uint32(data)) < 0 {
		verdict := int32(binary.NativeEndian.Uint32(data))
		parts = append(parts, "-j "+map[int32]string{-1: "DROP", -2: "ACCEPT", -5: "RETURN"}[verdict])
	}
	return strings.Join(parts, " ")
}

// extension reads struct xt_entry_match or xt_entry_target: size, name, revision.
func extension(b []byte) (name string, revision uint8, data []byte) {
	size := binary.NativeEndian.Uint16(b)
	name, _, _ = strings.Cut(string(b[2:31]), "\x00")
	return name, b[31], b[32:size]
}

// kernelSets asks the kernel for a set's name (struct ip_set_req_get_set).
type kernelSets struct{ n node }

func (k kernelSets) SetName(index uint16) (string, bool) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		k.n.t.Fatal(err)
	}
	defer unix.Close(fd)
	const byIndex, protocol = 7, 7
	req := make([]byte, 40)
	binary.NativeEndian.PutUint32(req, byIndex)
	binary.NativeEndian.PutUint32(req[4:], protocol)
	binary.NativeEndian.PutUint16(req[8:], index)
	k.n.getsockopt(fd, unix.SOL_IP, 83, req)
	name, _, _ := strings.Cut(string(req[8:]), "\x00")
	return name, name != ""
}

// compare holds the tool's lines against ours, one by one.
func compare(t *testing.T, what string, want, got []string) int {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: iptables-save prints %d rules, we read %d", what, len(want), len(got))
	}
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Errorf("%s, rule %d:\n  tool %s\n  ours %s", what, i+1, want[i], got[i])
		}
	}
	return min(len(want), len(got))
}

// registered reads the extensions that the kernel has at this moment.
func registered(t *testing.T, family string) map[string]bool {
	t.Helper()
	prefix := map[string]string{FamilyIPv4: "ip", FamilyIPv6: "ip6"}[family]
	known := map[string]bool{}
	for _, what := range []string{"matches", "targets"} {
		// The calling thread's namespace, not the process's.
		b, err := os.ReadFile(fmt.Sprintf("/proc/thread-self/net/%s_tables_%s", prefix, what))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(string(b)) {
			known[name] = true
		}
	}
	return known
}
