// SPDX-License-Identifier: Apache-2.0

// The servers of an environment: TCP and UDP echo in every pod and outside.

package cluster

import (
	"errors"
	"fmt"
	"net"

	"github.com/pathtrace/pathtrace/testenv/echo"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

// DefaultPort is served over TCP and UDP in every pod and outside.
const DefaultPort = 8080

// dnsPort is served over UDP in every pod, for the kube-dns service.
const dnsPort = 53

// serverKey tells servers apart.
type serverKey struct {
	netns string
	proto string
	port  int
}

// serverAddr is the address a namespace's servers listen on: all, but outside
// only the one that stands for a foreign host, so that UDP replies come from it.
func (e *Env) serverAddr(ns *netns.Namespace) net.IP {
	if ns == e.Underlay {
		return ExternalAddr.AsSlice()
	}
	return nil
}

func (e *Env) startServers() error {
	for _, ns := range e.servingNetns() {
		for _, key := range defaultServers(ns) {
			if err := e.Serve(ns, key.proto, key.port); err != nil {
				return err
			}
		}
	}
	return nil
}

func defaultServers(ns *netns.Namespace) []serverKey {
	return []serverKey{{ns.Name, "tcp", DefaultPort}, {ns.Name, "udp", DefaultPort}, {ns.Name, "udp", dnsPort}}
}

func (e *Env) servingNetns() []*netns.Namespace {
	all := []*netns.Namespace{e.Underlay}
	for _, pod := range e.Pods {
		all = append(all, pod.Netns)
	}
	return all
}

// Serve starts an echo server for "tcp" or "udp" on all addresses of a
// namespace, IPv4 and IPv6 (outside: on ExternalAddr).
func (e *Env) Serve(ns *netns.Namespace, proto string, port int) error {
	key := serverKey{ns.Name, proto, port}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.servers[key] != nil {
		return fmt.Errorf("%s port %d is served in %s already", proto, port, ns.Name)
	}
	s, err := echo.Serve(ns, proto, e.serverAddr(ns), port)
	if err != nil {
		return fmt.Errorf("serve %s port %d in %s: %w", proto, port, ns.Name, err)
	}
	e.servers[key] = s
	return nil
}

// StopServing ends a server that Serve or New started. After it nobody has the
// port.
func (e *Env) StopServing(ns *netns.Namespace, proto string, port int) error {
	key := serverKey{ns.Name, proto, port}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.servers[key]
	if s == nil {
		return fmt.Errorf("%s port %d is not served in %s", proto, port, ns.Name)
	}
	delete(e.servers, key)
	return errors.Join(s.Close(), ns.AwaitFree(proto, port))
}

func (e *Env) stopServers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, s := range e.servers {
		_ = s.Close() // closing is all that is wanted; the sockets go with it
		delete(e.servers, key)
	}
}
