// SPDX-License-Identifier: Apache-2.0

// The addresses a user would ask for to see some traffic.

package traffic

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

// Ends gives both ends of some traffic as addresses: a pod's own, a service's
// cluster address, the source address that the traffic pretends to have.
func Ends(e *cluster.Env, t Spec) (src, dst string, err error) {
	if src, err = endAddr(e, t, t.Src); err != nil {
		return "", "", err
	}
	if t.Source.IsValid() {
		src = t.Source.String()
	}
	dst, err = endAddr(e, t, t.Dst)
	return src, dst, err
}

func endAddr(e *cluster.Env, t Spec, name string) (string, error) {
	if pod := e.Pod(name); pod != nil {
		if t.IPv6 {
			return pod.IPv6.String(), nil
		}
		return pod.IPv4.String(), nil
	}
	if svc, ok := strings.CutPrefix(name, "svc:"); ok {
		if s, ok := e.Service(svc); ok {
			return s.ClusterIP.String(), nil
		}
	}
	if name == "external" {
		return cluster.ExternalAddr.String(), nil
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return a.String(), nil
	}
	return "", fmt.Errorf("traffic end %q has no address", name)
}
