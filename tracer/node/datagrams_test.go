// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"
)

func TestReadDatagrams(t *testing.T) {
	const snmp = `Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 20 3 0 17 0
UdpLite: InDatagrams NoPorts InErrors OutDatagrams
UdpLite: 9 9 9 9
`
	got, err := readSNMP(strings.NewReader(snmp))
	if want := (DatagramStats{NoPorts: 3, Sent: 17}); err != nil || got != want {
		t.Errorf("snmp: %+v, %v, want %+v", got, err, want)
	}
	got, err = readSNMP6(strings.NewReader("Udp6InDatagrams 4\nUdp6NoPorts  5\nUdp6OutDatagrams 6\nUdpLite6NoPorts 7\n"))
	if want := (DatagramStats{NoPorts: 5, Sent: 6}); err != nil || got != want {
		t.Errorf("snmp6: %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "Udp: NoPorts\n", "Udp: NoPorts\nUdp: x\n"} {
		if got, err := readSNMP(strings.NewReader(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}
