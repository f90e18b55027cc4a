// SPDX-License-Identifier: Apache-2.0

package xt

// Extensions and revisions that this kernel refuses: the real tools make and
// print the rules, a preloaded library (testdata/fakekernel.c) plays the kernel.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// offline are rules for a kernel whose extensions go up to a revision.
type offline struct {
	revision int
	family   string // "": both
	list     []string
}

// oldRevisions have the structs of older revisions, which a newer kernel still
// takes from older tools; the newest one is for what is often not built in.
func oldRevisions() []offline {
	return []offline{
		{0, "", []string{
			"-m state --state NEW,UNTRACKED", "-m state --state INVALID,RELATED,ESTABLISHED",
			"-m mark --mark 5", "-m mark ! --mark 0x10/0xf0", "-m connmark --mark 7", "-m connmark ! --mark 0x7/0xff",
			"-p tcp -m multiport --dports 80,443", "-p udp -m multiport --ports 1", "-p udp -m multiport --sports 1,2,3",
			"-m cgroup --cgroup 7", "-m cgroup ! --cgroup 7", `-m bpf --bytecode "1,6 0 0 1"`,
			`-m string --string abc --algo bm`, `-m string ! --string abc --algo bm --from 3`,
			"-m connlimit --connlimit-above 3 --connlimit-mask 24", "-m recent --set", "-m recent ! --rcheck --seconds 5 --rdest",
			"-j NFQUEUE --queue-num 7", "-j CT --notrack", "-p tcp -j CT --helper ftp --zone 3", "-j NOTRACK",
			"-j CONNMARK --set-mark 5", "-j CONNMARK --set-mark 5/0xf", "-j CONNMARK --save-mark", "-j CONNMARK --restore-mark --mask 0xff",
			"-j IDLETIMER --timeout 4 --label a", "-j SECMARK --selctx system_u:object_r:x_t:s0", "-j CONNSECMARK --save", "-j CONNSECMARK --restore",
			"-j MARK --set-mark 5",
		}},
		{0, FamilyIPv4, []string{
			"-m addrtype --src-type LOCAL", "-m addrtype ! --src-type LOCAL ! --dst-type UNICAST,LOCAL", "-m socket",
			"-m tos --tos 0x10", "-m tos ! --tos 0x08", "-j TOS --set-tos 0x10", "-p tcp -j TPROXY --on-port 5 --on-ip 127.0.0.1 --tproxy-mark 1/1",
			"-m set --match-set addrs src", "-m set ! --match-set pairs src,dst", "-j SET --add-set addrs src --del-set pairs dst,dst", "-j DNAT --to-destination 1.2.3.4",
		}},
		{0, FamilyIPv6, []string{"-m srh --srh-next-hdr 17 ! --srh-tag 5"}},
		{1, "", []string{
			"-m conntrack --ctstate NEW,RELATED", "-m conntrack ! --ctstate INVALID --ctproto 6", "-m conntrack --ctorigsrcport 80 ! --ctrepldstport 99",
			"-m conntrack --ctstatus ASSURED --ctexpire 1:2 --ctdir REPLY", "-m state --state NEW", "-m state ! --state ESTABLISHED,RELATED",
			"-m hashlimit --hashlimit-above 5/min --hashlimit-burst 7 --hashlimit-mode srcip --hashlimit-name b", "-m hashlimit --hashlimit-upto 1mb/s --hashlimit-name c",
			"-m hashlimit --hashlimit-upto 3/sec --hashlimit-mode dstip,dstport --hashlimit-dstmask 20 --hashlimit-name d --hashlimit-htable-expire 500",
			"-m set --match-set addrs src", "-m set ! --match-set pairs src,dst", "-j SET --add-set addrs src --del-set pairs dst,dst",
			"-j CONNMARK --set-xmark 5/6", "-j CONNMARK --restore-mark", "-j CONNMARK --save-mark",
			"-j NFQUEUE --queue-balance 1:4", "-j NFQUEUE --queue-num 4", `-m cgroup --path "a/b c"`, "-m cgroup ! --path x", "-m cgroup --cgroup 8",
			"-p udp -j CT --timeout long --zone 5", "-m socket --transparent", "-j SECMARK --selctx system_u:object_r:x_t:s0", "-j IDLETIMER --timeout 4 --label a --alarm",
		}},
		{1, FamilyIPv4, []string{"-j MARK --set-mark 5", "-j MARK --and-mark 5", "-j MARK --or-mark 5"}},
		{1, FamilyIPv6, []string{"-p tcp -j DNAT --to-destination [fd00::1]:80", "-j SNAT --to-source fd00::1-fd00::2"}},
		{2, "", []string{
			"-m conntrack --ctstate NEW,UNTRACKED,SNAT", "-m conntrack ! --ctstatus CONFIRMED --ctorigdstport 90",
			"-m hashlimit --hashlimit-above 5/min --hashlimit-burst 7 --hashlimit-mode srcip --hashlimit-name b --hashlimit-srcmask 8", "-m hashlimit --hashlimit-upto 1kb/s --hashlimit-burst 9kb --hashlimit-name c",
			"-m set --match-set addrs src --return-nomatch", "-j SET --add-set addrs src --exist --timeout 9", "-j NFQUEUE --queue-balance 1:4 --queue-bypass",
			"-m cgroup ! --path kube", "-m cgroup --path x --cgroup 5", "-m socket --nowildcard", "-m state --state NEW", "-j CT --notrack",
		}},
		{9, "", append(having("-m ipvs", "-j LED", "-m nfacct", "-m cgroup", "-m hashlimit", "-m set", "-m policy", "-m connlabel"),
			"-p udp -j CT --timeout long")},
		{9, FamilyIPv4, having("CLUSTERIP", "-m osf", "-m realm")},
	}
}

// having picks the corpus's rules for both families, or for IPv4, by their parts.
func having(parts ...string) []string {
	var list []string
	for _, group := range corpus() {
		for _, rule := range group.list {
			for _, part := range parts {
				v4 := part == "CLUSTERIP"
				if strings.Contains(rule, part) && (group.family == "" || v4 && group.family == FamilyIPv4) {
					list = append(list, rule)
				}
			}
		}
	}
	return list
}

func TestAgainstIPTablesSaveOffline(t *testing.T) {
	library := buildFakeKernel(t)
	compared := 0
	for _, family := range []string{FamilyIPv4, FamilyIPv6} {
		for _, set := range oldRevisions() {
			if set.family != "" && set.family != family {
				continue
			}
			t.Run(fmt.Sprintf("%s revision %d %s", family, set.revision, set.family), func(t *testing.T) {
				compared += offlineRules(t, inNamespace(t, family), library, set)
			})
		}
	}
	t.Logf("%d rules compared with iptables-save", compared)
}

// offlineRules puts all rules into table mangle: no kernel looks which table an
// extension belongs to.
func offlineRules(t *testing.T, n node, library string, set offline) int {
	file := filepath.Join(t.TempDir(), "table")
	n.makeSets()
	n.env = append(n.env, "LD_PRELOAD="+library, "FAKEKERNEL_FILE="+file, fmt.Sprintf("FAKEKERNEL_REV=%d", set.revision))
	const table, infoSize = "mangle", 84
	n.chains(table)
	n.addAll(table, n.withSets(set.list), func(rule string, err error) { t.Errorf("%s: %v", rule, err) })
	saved := n.saved(table)
	if len(saved) != len(set.list) && !t.Failed() {
		t.Errorf("%d rules made, iptables-save prints %d", len(set.list), len(saved))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return compare(t, "offline", saved, n.decoded(b[infoSize:], kernelSets{n}))
}

func buildFakeKernel(t *testing.T) string {
	t.Helper()
	for _, compiler := range []string{"cc", "clang"} {
		if _, err := exec.LookPath(compiler); err != nil {
			continue
		}
		library := filepath.Join(t.TempDir(), "fakekernel.so")
		out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror",
			"-o", library, "testdata/fakekernel.c", "-ldl").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", compiler, err, out)
		}
		return library
	}
	t.Skip("no C compiler here to build testdata/fakekernel.c")
	return ""
}
