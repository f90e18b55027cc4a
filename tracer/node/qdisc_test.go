// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
)

func TestQdiscs(t *testing.T) {
	c := nodetest.New(t)
	c.Add("x", "y")
	c.In("x", "ip link add eth0 type veth peer name eth0 netns @y", "ip link set eth0 up", "tc qdisc add dev eth0 root tbf rate 8mbit burst 1600 limit 4000", "tc qdisc add dev eth0 clsact")
	n := openNode(t, c.Path("x"))
	links, err := n.Links(c.Inode("x"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := n.Qdiscs(c.Inode("x"))
	want := Qdisc{LinkIndex: links[1].Index, Kind: "tbf", Root: true, Rate: 8_000_000}
	var got []Qdisc
	for _, q := range all {
		if q.LinkIndex == want.LinkIndex {
			got = append(got, q)
		}
	}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v, want %+v", all, err, want)
	}
}
