// SPDX-License-Identifier: Apache-2.0

package xt

// The rules that the differential tests load: every match and target with its
// options and their negations. The expected text is not here: the real tool says.

// rules of one table, for one family or ("") both.
type rules struct {
	table, family string
	list          []string
}

// corpus is all of them. Rules that name an address are told per family.
func corpus() []rules {
	return []rules{
		{"filter", "", corpusHeader()},
		{"filter", FamilyIPv4, corpusHeader4()},
		{"filter", FamilyIPv6, corpusHeader6()},
		{"filter", "", corpusTransport()},
		{"filter", "", corpusConnection()},
		{"filter", "", corpusSets()},
		{"filter", "", corpusPacket()},
		{"filter", "", corpusRates()},
		{"filter", "", corpusBytes()},
		{"filter", FamilyIPv4, corpusAddresses4()},
		{"filter", FamilyIPv6, corpusAddresses6()},
		{"filter", FamilyIPv6, corpusExtensionHeaders()},
		{"filter", "", corpusTargets()},
		{"filter", FamilyIPv4, corpusTargets4()},
		{"filter", FamilyIPv6, corpusTargets6()},
		{"mangle", "", corpusMangle()},
		{"mangle", FamilyIPv4, corpusMangle4()},
		{"mangle", FamilyIPv6, corpusMangle6()},
		{"nat", FamilyIPv4, corpusNAT4()},
		{"nat", FamilyIPv6, corpusNAT6()},
		{"raw", "", corpusRaw()},
	}
}

func corpusHeader() []string {
	return []string{
		"", "-j ACCEPT", "-j DROP", "-j RETURN",
		"-i eth0 -j DROP", "! -i eth0 -o cali+", "-i cali+ ! -o eth0", "-i a+ -o b+", "-i 123456789012345",
		"-p tcp", "! -p udp", "-p udplite", "-p sctp", "-p esp", "-p ah", "-p 4", "-p 47", "-p 89", "! -p 112", "-p 250",
		"-p 41", "-p 2", "-p dccp", "-p ipcomp",
		`-m comment --comment cali:abc_DEF-1`, `-m comment --comment "two words" -j DROP`,
		`-m comment --comment "a \"quote\", a back\\slash, it's"`, `-m comment --comment "cali:x~y/z=" -m comment --comment second`,
		`-m comment --comment ""`,
	}
}

func corpusHeader4() []string {
	return []string{
		"-s 10.0.0.0/8 -d 10.1.2.3", "! -s 10.0.0.0/8 ! -d 10.1.2.3/32", "-s 10.0.0.1/255.0.255.0", "-s 0.0.0.0/0", "! -s 0.0.0.0/0",
		"-d 224.0.0.0/4 -f", "! -f", "-p icmp", "-p icmp -f", "-s 128.0.0.0/1", "-p ipv6-icmp",
		"-p icmp -m icmp --icmp-type any", "-p icmp -m icmp --icmp-type 8", "-p icmp -m icmp ! --icmp-type 3/4",
		"-p icmp -m icmp --icmp-type echo-request", "-p icmp -m icmp --icmp-type 3/0", "-p icmp -m icmp ! --icmp-type any",
	}
}

func corpusHeader6() []string {
	return []string{
		"-s fd00::/8 -d fd00::1", "! -s fd00::/8 ! -d fd00::1/128", "-s fd00::/ffff::ffff", "! -s ::/0", "-d ::ffff:192.0.2.1/128",
		"-d ::192.0.2.1/128", "-s 2001:db8::/33", "-p ipv6-icmp", "-p ipv6-mh", "-p icmp",
		"-p ipv6-icmp -m icmp6 --icmpv6-type 128", "-p ipv6-icmp -m icmp6 ! --icmpv6-type 1/3",
		"-p ipv6-icmp -m icmp6 --icmpv6-type neighbour-solicitation", "-p ipv6-icmp -m icmp6 --icmpv6-type 255",
	}
}

func corpusTransport() []string {
	return []string{
		"-p tcp -m tcp --dport 80", "-p tcp -m tcp ! --sport 1024:65535 --dport 1:1023", "-p tcp -m tcp --sport :100",
		"-p tcp -m tcp --dport 0:65535", "-p tcp -m tcp ! --dport 443 -j DROP", "-p tcp -m tcp --sport 100:",
		"-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "-p tcp --syn", "-p tcp ! --syn", "-p tcp -m tcp --tcp-flags ALL NONE",
		"-p tcp -m tcp ! --tcp-flags PSH,URG URG,PSH", "-p tcp -m tcp --tcp-option 5", "-p tcp -m tcp ! --tcp-option 5",
		"-p tcp -m tcp --sport 1 --dport 2 --tcp-option 8 --tcp-flags SYN SYN", "-p tcp -m tcp",
		"-p udp -m udp --sport 53", "-p udp -m udp ! --sport 53 ! --dport 1000:2000", "-p udp -m udp",
		"-p tcp -m multiport --dports 80,443", "-p udp -m multiport ! --sports 1:10,53,1000:2000", "-p sctp -m multiport --ports 1,2,3",
		"-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "-p tcp -m multiport ! --ports 0:65535",
		"-p sctp -m sctp --sport 1", "-p sctp -m sctp ! --sport 1:5 ! --dport 7", "-p sctp -m sctp --chunk-types all ALL",
		"-p sctp -m sctp --chunk-types any INIT,DATA:Be,ABORT:T", "-p sctp -m sctp ! --chunk-types only NONE",
		"-p sctp -m sctp --dport 5 --chunk-types any DATA:IUBE,SHUTDOWN_COMPLETE:t,ASCONF,FORWARD_TSN,RE_CONFIG,PAD",
		"-p dccp -m dccp --sport 1 --dport 2:3", "-p dccp -m dccp ! --sport 1:9 ! --dport 2", "-p dccp -m dccp --dccp-types REQUEST,ACK",
		"-p dccp -m dccp ! --dccp-types RESPONSE,INVALID", "-p dccp -m dccp --dccp-option 5", "-p dccp -m dccp ! --dccp-option 3",
		"-p esp -m esp --espspi 256", "-p esp -m esp ! --espspi 1:500", "-p esp -m esp", "-p esp -m esp --espspi 0:4294967295",
		"-p ah -m ah --ahspi 5", "-p ah -m ah ! --ahspi 0:10", "-p ah -m ah",
		"-p ipcomp -m ipcomp --ipcompspi 18", "-p ipcomp -m ipcomp ! --ipcompspi 1:9 --compres",
	}
}

func corpusConnection() []string {
	return []string{
		"-m mark --mark 0x10000/0x10000", "-m mark ! --mark 5", "-m mark --mark 0/0xff", "-m mark --mark 0xffffffff",
		"-m connmark --mark 1", "-m connmark ! --mark 0x80/0xf0",
		"-m state --state NEW", "-m state --state INVALID,ESTABLISHED,UNTRACKED", "-m state ! --state RELATED",
		"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-m conntrack ! --ctstate NEW", "-m conntrack --ctstate INVALID -j DROP",
		"-m conntrack --ctstate UNTRACKED,SNAT,DNAT", "-m conntrack --ctproto 17", "-m conntrack ! --ctproto 6",
		"-m conntrack --ctstatus NONE", "-m conntrack --ctstatus EXPECTED,SEEN_REPLY", "-m conntrack ! --ctstatus ASSURED,CONFIRMED",
		"-m conntrack --ctexpire 10", "-m conntrack ! --ctexpire 10:20", "-m conntrack --ctdir ORIGINAL", "-m conntrack --ctdir REPLY",
		"-m conntrack --ctorigsrcport 80", "-m conntrack ! --ctorigdstport 80:90 --ctreplsrcport 5:6 ! --ctrepldstport 7",
		"-m conntrack --ctstate DNAT --ctdir REPLY --ctproto 6 --ctreplsrcport 1:2",
		"-m helper --helper ftp", `-m helper ! --helper "ftp-21"`, `-m helper --helper "a b"`,
		"-m connlabel --label 40", "-m connlabel ! --label 12 --set", "-m connlabel --label 3 --set",
		"-m connbytes --connbytes 100: --connbytes-dir both --connbytes-mode bytes", "-m connbytes --connbytes 1:2 --connbytes-dir original --connbytes-mode packets",
		"-m connbytes ! --connbytes 10:20 --connbytes-dir reply --connbytes-mode avgpkt", "-m connbytes --connbytes 0:0 --connbytes-dir reply --connbytes-mode avgpkt",
		"-m connlimit --connlimit-above 3", "-m connlimit --connlimit-upto 7 --connlimit-mask 24 --connlimit-daddr",
		"-m connlimit --connlimit-above 1 --connlimit-mask 0", "-m connlimit ! --connlimit-above 5 --connlimit-saddr",
		"-m ipvs --ipvs", "-m ipvs ! --ipvs", "-m ipvs --vproto tcp --vport 80", "-m ipvs ! --vport 81 --vdir REPLY --vmethod MASQ",
		"-m ipvs --vdir ORIGINAL --vmethod GATE", "-m ipvs --vmethod IPIP --vportctl 21", "-m ipvs ! --vmethod MASQ ! --vportctl 9",
	}
}

// corpusSets uses the sets addrs, pairs and 6addrs or 4addrs made by the test;
// SETNAME stands for the family's own.
func corpusSets() []string {
	return []string{
		"-m set --match-set SETNAME src", "-m set ! --match-set SETNAME dst", "-m set --match-set SETPAIRS dst,src",
		"-m set --match-set SETPAIRS src,dst -j DROP", "-m set --match-set SETNAME src --return-nomatch",
		"-m set ! --match-set SETNAME src ! --update-counters", "-m set --match-set SETNAME src ! --update-subcounters --packets-eq 3",
		"-m set --match-set SETNAME src --packets-lt 5 ! --bytes-eq 7", "-m set --match-set SETNAME src ! --packets-eq 5 --bytes-gt 1000000000000",
		"-m set --match-set SETNAME src --packets-gt 5 --bytes-lt 7",
		"-j SET --add-set SETNAME src", "-j SET --del-set SETPAIRS src,dst", "-j SET --add-set SETNAME dst --exist --timeout 60",
		"-j SET --add-set SETNAME src --del-set SETPAIRS dst,dst", "-j SET --add-set SETNAME src --timeout 0",
	}
}

func corpusPacket() []string {
	return []string{
		"-m length --length 100", "-m length ! --length 64:128", "-m length --length :1500", "-m length --length 1000:",
		"-p tcp -m tcpmss --mss 1460", "-p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss ! --mss 1:500",
		"-m tos --tos 0x10", "-m tos ! --tos 0x04/0x0c", "-m tos --tos Minimize-Delay", "-m dscp --dscp 0x2e", "-m dscp ! --dscp-class AF11", "-m dscp --dscp 0",
		"-m ecn --ecn-ip-ect 2", "-m ecn ! --ecn-ip-ect 0", "-p tcp -m ecn --ecn-tcp-ece ! --ecn-tcp-cwr", "-p tcp -m ecn ! --ecn-tcp-ece --ecn-tcp-cwr --ecn-ip-ect 1",
		"-m addrtype --src-type LOCAL", "-m addrtype ! --dst-type LOCAL,MULTICAST", "-m addrtype --src-type UNICAST ! --dst-type ANYCAST",
		"-m addrtype --dst-type LOCAL --limit-iface-in", "-m addrtype ! --src-type UNREACHABLE --limit-iface-out",
		"-m mac --mac-source 02:00:aB:00:00:01", "-m mac ! --mac-source 02:00:00:00:00:02",
		"-m pkttype --pkt-type broadcast", "-m pkttype ! --pkt-type unicast", "-m pkttype --pkt-type multicast", "-m pkttype ! --pkt-type otherhost",
		"-m realm --realm 0x5", "-m realm ! --realm 0x10/0xf0",
		"-m physdev --physdev-in eth0", "-m physdev ! --physdev-in veth+ --physdev-is-bridged", "-m physdev --physdev-is-in", "-m physdev ! --physdev-is-in",
		"-m physdev --physdev-out veth1 --physdev-is-bridged", "-m physdev ! --physdev-is-bridged", "-m physdev ! --physdev-is-out --physdev-in a+",
		"-m physdev --physdev-is-out --physdev-is-bridged ! --physdev-out b1",
		"-m devgroup --src-group 5", "-m devgroup ! --src-group 0x10/0xf0 --dst-group 7", "-m devgroup ! --dst-group 0x9",
		"-m owner --uid-owner 1000", "-m owner ! --uid-owner 0 --gid-owner 5-9", "-m owner --socket-exists", "-m owner ! --socket-exists",
		"-m owner --uid-owner 0-99 ! --gid-owner 3 --suppl-groups",
		"-m socket", "-m socket --transparent", "-m socket --nowildcard --transparent", "-m socket --restore-skmark",
		"-m cgroup --cgroup 1048577", "-m cgroup ! --cgroup 5", "-m cgroup --path kube/pods", "-m cgroup ! --path \"a b\"",
		"-m cpu --cpu 0", "-m cpu ! --cpu 3",
		"-m cluster --cluster-total-nodes 4 --cluster-local-node 2 --cluster-hash-seed 0xdeadbeef", "-m cluster --cluster-total-nodes 2 ! --cluster-local-node 1 --cluster-hash-seed 7",
		"-m policy --dir in --pol ipsec", "-m policy --dir out --pol none", "-m policy --dir in --pol ipsec --strict --reqid 5 --spi 0x10 --proto esp --mode transport",
		"-m policy --dir out --pol ipsec --strict ! --reqid 1 --next ! --spi 7 ! --proto ah", "-m policy --dir in --pol ipsec --proto ipcomp",
	}
}

func corpusRates() []string {
	return []string{
		"-m limit --limit 3/min", "-m limit --limit 10/sec --limit-burst 100", "-m limit --limit 1/day --limit-burst 1", "-m limit --limit 7/hour",
		"-m limit --limit 1000/sec", "-m limit --limit 90/min", "-m limit --limit 3333/hour", "-m limit --limit 10000/sec", "-m limit",
		"-m hashlimit --hashlimit-upto 10/sec --hashlimit-name a", "-m hashlimit --hashlimit-above 5/min --hashlimit-burst 7 --hashlimit-mode srcip,dstport --hashlimit-name b",
		"-m hashlimit --hashlimit-upto 1/hour --hashlimit-mode dstip,srcport,srcip,dstport --hashlimit-srcmask 24 --hashlimit-dstmask 16 --hashlimit-name c_d",
		"-m hashlimit --hashlimit-upto 512kb/s --hashlimit-name d", "-m hashlimit --hashlimit-above 1mb/s --hashlimit-burst 2mb --hashlimit-mode srcip --hashlimit-name e",
		"-m hashlimit --hashlimit-upto 100b/s --hashlimit-burst 1000b --hashlimit-mode srcip --hashlimit-name f",
		"-m hashlimit --hashlimit-upto 77/day --hashlimit-htable-size 100 --hashlimit-htable-max 2000 --hashlimit-htable-gcinterval 60000 --hashlimit-htable-expire 2000 --hashlimit-mode dstip --hashlimit-name g",
		"-m hashlimit --hashlimit-above 20kb/s --hashlimit-mode srcip --hashlimit-name h --hashlimit-htable-expire 5000",
		"-m hashlimit --hashlimit-above 3/sec --hashlimit-mode srcip --hashlimit-name i --hashlimit-rate-match --hashlimit-rate-interval 10",
		"-m hashlimit --hashlimit-above 3/sec --hashlimit-mode srcip --hashlimit-name j --hashlimit-rate-match",
		"-m statistic --mode random --probability 0.5", "-m statistic --mode random ! --probability 0.33333333349", "-m statistic --mode random --probability 1",
		"-m statistic --mode nth --every 3 --packet 0", "-m statistic --mode nth ! --every 10 --packet 4", "-m statistic --mode random --probability 0",
		"-m recent --set", "-m recent --rcheck --seconds 60 --hitcount 3 --name ssh --rsource", "-m recent --update --seconds 30 --reap --name x --rdest",
		"-m recent ! --remove --name y", "-m recent ! --rcheck --rttl --hitcount 5 --name z",
		"-m quota --quota 1000", "-m quota ! --quota 18446744073709551615",
		"-m nfacct --nfacct-name http", `-m nfacct --nfacct-name "a b"`,
		"-j RATEEST --rateest-name one --rateest-interval 250ms --rateest-ewmalog 500ms", "-j RATEEST --rateest-name two --rateest-interval 4s --rateest-ewmalog 16s",
		"-m rateest --rateest one --rateest-gt --rateest-bps 1000000", "-m rateest --rateest one ! --rateest-lt --rateest-pps 5",
		"-m rateest --rateest-delta --rateest one --rateest-bps1 1Mbit --rateest-lt --rateest-bps2 2Gbit",
		"-m rateest --rateest1 one --rateest-eq --rateest-bps --rateest2 two",
	}
}

func corpusBytes() []string {
	return []string{
		`-m u32 --u32 "0x0=0x0"`, `-m u32 --u32 "0x0=0x0:0x8000"`, `-m u32 ! --u32 "0x6&0xff=0x6&&0x0>>0x16&0x3c@0xc>>0x1a@0x0=0x5,0x7:0x9"`,
		`-m u32 --u32 "0x0<<0x3=0x1,0x2,0x3"`,
		`-m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"`, `-m bpf --bytecode "1,6 0 0 1"`,
		`-m string --string "GET /" --algo bm`, `-m string ! --string "it's \"x\"" --algo kmp --from 10 --to 100`,
		`-m string --hex-string "|0a0d|" --algo bm --icase`, `-m string --string "abc" --algo kmp --to 65535`, `-m string --string "a\\b c" --algo bm`,
		`-m string --hex-string "x|00|y" --algo kmp`,
		"-p tcp -m osf --genre Linux", "-p tcp -m osf ! --genre Windows --ttl 2 --log 1",
		"-m time --timestart 08:00 --timestop 18:00:30 --weekdays Mon,Tue,Fri", "-m time --monthdays 1,15,31 --kerneltz",
		"-m time --datestart 2026-01-02T03:04:05 --datestop 2027-01-01", "-m time ! --weekdays Sun ! --monthdays 2",
		"-m time --timestart 23:00 --timestop 01:00 --contiguous",
	}
}

func corpusAddresses4() []string {
	return []string{
		"-m iprange --src-range 10.0.0.1-10.0.0.9", "-m iprange ! --src-range 10.0.0.1-10.0.0.9 --dst-range 10.1.0.0-10.1.255.255", "-m iprange ! --dst-range 1.1.1.1-1.1.1.1",
		"-m conntrack --ctorigsrc 10.0.0.0/8", "-m conntrack ! --ctorigsrc 10.0.0.1 --ctorigdst 10.9.0.0/16", "-m conntrack --ctreplsrc 10.0.0.1/255.0.255.0 ! --ctrepldst 1.2.3.4",
		"-m conntrack --ctorigdst 10.96.0.1 --ctorigdstport 443", "-m conntrack --ctreplsrc 0.0.0.0/0",
		"-m addrtype --dst-type BROADCAST,BLACKHOLE,PROHIBIT,THROW,NAT,XRESOLVE,UNSPEC",
		"-m ttl --ttl-eq 64", "-m ttl ! --ttl-eq 1", "-m ttl --ttl-lt 5", "-m ttl --ttl-gt 200",
		"-m recent --set --name m --mask 255.255.255.0 --rsource", "-m ipvs --vaddr 10.96.0.0/12", "-m ipvs ! --vaddr 10.96.0.1 --vport 443",
		"-m policy --dir in --pol ipsec --mode tunnel --tunnel-src 10.0.0.1 ! --tunnel-dst 10.2.0.0/16 --strict",
	}
}

func corpusAddresses6() []string {
	return []string{
		"-m iprange --src-range fd00::1-fd00::9", "-m iprange ! --src-range fd00::1-fd00::9 --dst-range fd01::-fd01::ffff:ffff",
		"-m conntrack --ctorigsrc fd00::/8", "-m conntrack ! --ctorigsrc fd00::1 --ctorigdst fd01::/64", "-m conntrack --ctreplsrc fd00::1/ffff::ffff ! --ctrepldst ::1",
		"-m addrtype --src-type UNSPEC", "-m addrtype ! --dst-type LOCAL,UNREACHABLE",
		"-m hl --hl-eq 64", "-m hl ! --hl-eq 1", "-m hl --hl-lt 5", "-m hl --hl-gt 200",
		"-m recent --set --name m --mask ffff:ffff:: --rdest", "-m ipvs --vaddr fd00::/64",
		"-m policy --dir out --pol ipsec --mode tunnel --tunnel-src fd00::1 ! --tunnel-dst fd00::/64 --strict",
	}
}

func corpusExtensionHeaders() []string {
	return []string{
		"-m frag --fragid 5 --fraglast", "-m frag ! --fragid 1:9 --fragmore --fragres --fragfirst", "-m frag",
		"-m hbh --hbh-len 8", "-m hbh ! --hbh-len 8 --hbh-opts 1:4,23:42,5", "-m dst --dst-len 4 --dst-opts 149:92", "-m dst ! --dst-len 42", "-m dst",
		"-m rt --rt-type 0 --rt-segsleft 1:4", "-m rt ! --rt-type 2 ! --rt-segsleft 3 ! --rt-len 5", "-m rt --rt-type 0 --rt-0-res --rt-0-addrs fd00::1,fd00::2 --rt-0-not-strict",
		"-p ipv6-mh -m mh --mh-type 5", "-p ipv6-mh -m mh ! --mh-type 1:3", "-p ipv6-mh -m mh",
		"-m ipv6header --header hop,dst,route,frag,auth,esp,none,prot", "-m ipv6header ! --header frag --soft",
		"-m srh --srh-next-hdr 17 --srh-segs-left-eq 2", "-m srh ! --srh-hdr-len-gt 8 --srh-last-entry-lt 3 ! --srh-tag 7", "-m srh --srh-psid fd00::/64 ! --srh-nsid fd01::1/128 --srh-lsid fd02::/16",
		"-m eui64", "-p ah -m ah --ahspi 1 ! --ahlen 5 --ahres",
	}
}

func corpusTargets() []string {
	return []string{
		"-j LOG", `-j LOG --log-prefix "dropped: " --log-level 7`, "-j LOG --log-prefix calico --log-tcp-sequence --log-tcp-options --log-ip-options --log-uid --log-macdecode",
		"-j LOG --log-level warning", "-j LOG --log-level emerg",
		"-j NFLOG --nflog-group 5", `-j NFLOG --nflog-prefix "a b" --nflog-size 80 --nflog-threshold 3`, "-j NFLOG", "-j NFLOG --nflog-group 1 --nflog-prefix DPI --nflog-size 0",
		"-j NFQUEUE", "-j NFQUEUE --queue-num 3", "-j NFQUEUE --queue-balance 0:7", "-j NFQUEUE --queue-balance 10:13 --queue-bypass --queue-cpu-fanout", "-j NFQUEUE --queue-num 65535 --queue-bypass",
		"-p tcp -j REJECT --reject-with tcp-reset", "-j AUDIT --type accept", "-j AUDIT --type drop", "-j AUDIT --type reject",
		"-p tcp -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 9 --ecn", "-p tcp -j SYNPROXY",
		"-j IDLETIMER --timeout 42 --label xyz", "-j IDLETIMER --timeout 7 --label alarmed --alarm",
		`-j LED --led-trigger-id "foo"`, "-j LED --led-trigger-id bar --led-delay 42 --led-always-blink", "-j LED --led-trigger-id baz --led-delay inf",
		"-j CONNMARK --set-mark 5", "-j CONNMARK --set-xmark 0x10/0xf0", "-j CONNMARK --save-mark", "-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff00",
		"-j CONNMARK --save-mark --mask 0xf", "-j CONNMARK --or-mark 8", "-j CONNMARK --and-mark 7", "-j CONNMARK --xor-mark 3",
		"-j CONNMARK --set-mark 5 --left-shift-mark 3", "-j CONNMARK --restore-mark --right-shift-mark 2",
		"-j CLASSIFY --set-class 1:ffff", "-j CLASSIFY --set-class 0:1",
	}
}

func corpusTargets4() []string {
	return []string{
		"-j REJECT", "-j REJECT --reject-with icmp-net-unreachable", "-j REJECT --reject-with icmp-host-unreachable", "-j REJECT --reject-with icmp-proto-unreachable",
		"-j REJECT --reject-with icmp-net-prohibited", "-j REJECT --reject-with icmp-host-prohibited", "-j REJECT --reject-with icmp-admin-prohibited",
	}
}

func corpusTargets6() []string {
	return []string{
		"-j REJECT", "-j REJECT --reject-with icmp6-no-route", "-j REJECT --reject-with icmp6-adm-prohibited", "-j REJECT --reject-with icmp6-addr-unreachable",
		"-j REJECT --reject-with icmp6-policy-fail", "-j REJECT --reject-with icmp6-reject-route",
	}
}

func corpusMangle() []string {
	return []string{
		"-j MARK --set-mark 5", "-j MARK --set-xmark 0x4000/0x4000", "-j MARK --and-mark 0xff", "-j MARK --or-mark 0x80", "-j MARK --xor-mark 1", "-j MARK --set-mark 0x10/0xf0",
		"-j DSCP --set-dscp 0x2e", "-j DSCP --set-dscp-class CS1", "-j TOS --set-tos 0x10", "-j TOS --and-tos 0xfc", "-j TOS --or-tos 4", "-j TOS --set-tos 8/0x0c", "-j TOS --xor-tos 2",
		"-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400",
		"-p tcp -j TCPOPTSTRIP --strip-options 2,sack,8,wscale,30", "-p tcp -j TCPOPTSTRIP", "-p udp -j CHECKSUM --checksum-fill",
		"-j HMARK --hmark-tuple src,dst --hmark-mod 100 --hmark-rnd 0xbeef", "-j HMARK --hmark-tuple ct,src,dst,sport,dport --hmark-mod 5 --hmark-offset 7 --hmark-rnd 1",
		"-p tcp -j HMARK --hmark-sport-mask 0xff00 --hmark-dport-mask 0xff --hmark-src-prefix 24 --hmark-dst-prefix 16 --hmark-proto-mask 0x3 --hmark-mod 9 --hmark-rnd 3",
		"-p esp -j HMARK --hmark-spi-mask 0xffff --hmark-spi 0x5 --hmark-mod 3 --hmark-rnd 1", "-p tcp -j HMARK --hmark-sport 0x5 --hmark-dport 0x1122 --hmark-mod 3 --hmark-rnd 1",
		"-j SET --map-set SETMARKED src --map-mark", "-j SET --map-set SETMARKED src --map-mark --map-prio --map-queue",
	}
}

func corpusMangle4() []string {
	return []string{
		"-j TTL --ttl-set 64", "-j TTL --ttl-dec 1", "-j TTL --ttl-inc 5", "-p tcp -j ECN --ecn-tcp-remove",
		"-p tcp -j ECN --ecn-tcp-ece 1", "-p tcp -j ECN --ecn-tcp-cwr 1 --ecn-ip-ect 2", "-j ECN --ecn-ip-ect 0",
		"-p tcp -j TPROXY --on-port 15001", "-p udp -j TPROXY --on-ip 127.0.0.1 --on-port 53 --tproxy-mark 0x1/0x1",
		"-j TEE --gateway 10.0.0.9", "-j TEE --gateway 10.0.0.9 --oif lo",
	}
}

func corpusMangle6() []string {
	return []string{
		"-j HL --hl-set 64", "-j HL --hl-dec 1", "-j HL --hl-inc 5", "-p tcp -j TPROXY --on-ip fd00::1 --on-port 15001 --tproxy-mark 0x2",
		"-j TEE --gateway fd00::9 --oif lo", "-j SNPT --src-pfx fd00::/64 --dst-pfx 2001:db8::/64", "-j DNPT --src-pfx dead::/48 --dst-pfx fd01::/48",
	}
}

func corpusNAT4() []string {
	return []string{
		"-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080", "-j DNAT --to-destination 10.0.0.2", "-p udp -j DNAT --to-destination 10.0.0.2-10.0.0.5:53-60 --random",
		"-p tcp -j DNAT --to-destination :8080", "-p tcp -j DNAT --to-destination 10.0.0.2:1000-2000/5000 --persistent", "-j DNAT --to-destination 10.0.0.1-10.0.0.9 --persistent",
		"-j SNAT --to-source 10.0.0.1", "-p tcp -j SNAT --to-source 10.0.0.1-10.0.0.3:1024-65535 --random-fully", "-p udp -j SNAT --to-source :1000 --random", "-j SNAT --to-source 10.0.0.1 --persistent",
		"-j MASQUERADE", "-j MASQUERADE --random-fully", "-p tcp -j MASQUERADE --to-ports 1024-2048 --random", "-p udp -j MASQUERADE --to-ports 99",
		"-p tcp -j REDIRECT --to-ports 15006", "-p tcp -j REDIRECT --to-ports 1-9 --random", "-j REDIRECT",
		"-j NETMAP --to 10.5.0.0/16", "-j NETMAP --to 10.5.0.1", "-j NETMAP --to 10.0.0.0/255.0.255.0",
		"-d 10.0.0.99 -p tcp -j CLUSTERIP --new --hashmode sourceip-sourceport --clustermac 01:02:03:04:05:06 --total-nodes 4 --local-node 2 --hash-init 42",
	}
}

func corpusNAT6() []string {
	return []string{
		"-p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::2]:8080", "-j DNAT --to-destination fd00::2", "-p udp -j DNAT --to-destination [fd00::2-fd00::5]:53-60 --random",
		"-p tcp -j DNAT --to-destination [fd00::2]:1000-2000/5000", "-p tcp -j DNAT --to-destination :8080 --persistent",
		"-j SNAT --to-source fd00::1-fd00::7 --random-fully", "-p tcp -j SNAT --to-source [fd00::1]:1024-65535", "-j SNAT --to-source fd00::1 --persistent --random",
		"-j MASQUERADE", "-p tcp -j MASQUERADE --to-ports 1024-2048 --random-fully", "-p tcp -j REDIRECT --to-ports 15006", "-j REDIRECT",
		"-j NETMAP --to fd00:5::/64", "-j NETMAP --to fd00::1",
	}
}

func corpusRaw() []string {
	return []string{
		"-m rpfilter", "-m rpfilter --loose --validmark --accept-local --invert", "-m rpfilter --invert -j DROP", "-m rpfilter --loose",
		"-j NOTRACK", "-j CT --notrack", "-j CT --zone 5", "-j CT --zone-orig 7", "-j CT --zone-reply mark", "-j CT --zone mark",
		"-p tcp -j CT --helper ftp", "-j CT --ctevents new,related,destroy,reply,assured,protoinfo,helper,mark", "-j CT --expevents new",
		"-p tcp -j CT --ctevents destroy,mark --zone 3", "-p udp -j CT --timeout long", "-p tcp -j TRACE",
	}
}
