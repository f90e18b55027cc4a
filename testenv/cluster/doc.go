// SPDX-License-Identifier: Apache-2.0

// Package cluster builds a small Kubernetes cluster out of network namespaces:
// a Calico node or a Flannel node (or two of a kind), with pods, routes,
// neighbours, VXLAN tunnel and the rule sets that the real Felix, flanneld and
// kube-proxy programmed. What these were is recorded in testdata. Nodes that are joined
// by IPIP, WireGuard or routes alone, and kube-proxy's IPVS mode, are made of those
// (derive.go).
//
//	        underlay netns: bridge br0 172.30.0.254/24, the world behind it
//	           |                                  |
//	         eth0 172.30.0.1                    eth0 172.30.0.2
//	 +-------- node1 --------------+     +------ node2 ---------+
//	 | vxlan.calico / flannel.1 ===|=====|=== vxlan.calico      |
//	 | calia7a3e029a7b | veth in   |     | cali4e54bcdb445      |
//	 | cali7715d358f22 | cni0      |     |                      |
//	 +--|-----------|--------------+     +--|-------------------+
//	  eth0        eth0                    eth0
//	default/    default/                default/
//	 client      server ...               web2
//
// Nothing outside these namespaces is changed: no link, rule, route or sysctl
// of the namespace the caller runs in. All namespaces carry their owner's
// process in their names, so that what a killed owner leaves behind is found
// and removed by the next one (package owner).
package cluster
