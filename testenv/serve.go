// SPDX-License-Identifier: Apache-2.0

// Servers: TCP and UDP echo in every pod, as goroutines of this process whose
// sockets live in the pod's network namespace.

package testenv

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// DefaultPort is served over TCP and UDP in every pod and outside.
const DefaultPort = 8080

// dnsPort is served over UDP in every pod, for the kube-dns service.
const dnsPort = 53

// idleLimit ends a TCP echo connection that nobody uses.
const idleLimit = 30 * time.Second

type listenKey struct {
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

// listener is a running server.
type listener struct {
	close func() error
	done  sync.WaitGroup
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

func defaultServers(ns *netns.Namespace) []listenKey {
	return []listenKey{{ns.Name, "tcp", DefaultPort}, {ns.Name, "udp", DefaultPort}, {ns.Name, "udp", dnsPort}}
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
	start := map[string]func(*netns.Namespace, net.IP, int) (*listener, error){"tcp": serveTCP, "udp": serveUDP}[proto]
	if start == nil {
		return fmt.Errorf("cannot serve %q: take tcp or udp", proto)
	}
	key := listenKey{ns.Name, proto, port}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listeners[key] != nil {
		return fmt.Errorf("%s port %d is served in %s already", proto, port, ns.Name)
	}
	l, err := start(ns, e.serverAddr(ns), port)
	if err != nil {
		return fmt.Errorf("serve %s port %d in %s: %w", proto, port, ns.Name, err)
	}
	e.listeners[key] = l
	return nil
}

// StopServing ends a server that Serve or New started. After it nobody has the
// port.
func (e *Env) StopServing(ns *netns.Namespace, proto string, port int) error {
	key := listenKey{ns.Name, proto, port}
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.listeners[key]
	if l == nil {
		return fmt.Errorf("%s port %d is not served in %s", proto, port, ns.Name)
	}
	delete(e.listeners, key)
	err := l.close()
	l.done.Wait()
	return errors.Join(err, ns.AwaitFree(proto, port))
}

func (e *Env) stopServers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, l := range e.listeners {
		l.close() // closing is all that is wanted; the sockets go with it
		l.done.Wait()
		delete(e.listeners, key)
	}
}

func serveTCP(ns *netns.Namespace, ip net.IP, port int) (*listener, error) {
	var ln *net.TCPListener
	err := ns.Do(func() (err error) {
		ln, err = net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: port})
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &tcpServer{conns: map[net.Conn]bool{}}
	l := &listener{close: func() error { return errors.Join(ln.Close(), s.closeAll()) }}
	l.done.Go(func() { s.accept(ln, &l.done) })
	return l, nil
}

// tcpServer keeps count of its connections so as to end them with the server.
type tcpServer struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func (s *tcpServer) accept(ln *net.TCPListener, done *sync.WaitGroup) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		if !s.add(conn) {
			conn.Close()
			return
		}
		done.Go(func() {
			defer s.drop(conn)
			echoTCP(conn)
		})
	}
}

func echoTCP(conn net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		if conn.SetDeadline(time.Now().Add(idleLimit)) != nil {
			return
		}
		n, err := conn.Read(buf)
		if n > 0 {
			if _, err := conn.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF when the client is done
		}
	}
}

func (s *tcpServer) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[conn] = true
	}
	return !s.closed
}

func (s *tcpServer) drop(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	conn.Close()
}

func (s *tcpServer) closeAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	return nil
}

func serveUDP(ns *netns.Namespace, ip net.IP, port int) (*listener, error) {
	var conn *net.UDPConn
	err := ns.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: ip, Port: port})
		return err
	})
	if err != nil {
		return nil, err
	}
	// A reply must be allowed to be as long as the question was: it is sent
	// without DF, in fragments if need be.
	if err := setSockopts(conn, sockopt{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	l := &listener{close: conn.Close}
	l.done.Go(func() { echoUDP(conn) })
	return l, nil
}

func echoUDP(conn *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier reply
		}
		if _, err := conn.WriteToUDPAddrPort(buf[:n], from); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// sockopt is one integer socket option.
type sockopt struct{ level, name, value int }

// setSockopts sets options on any Go socket.
func setSockopts(conn syscall.Conn, opts ...sockopt) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return controlSockopts(raw, opts)
}

func controlSockopts(raw syscall.RawConn, opts []sockopt) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		for _, o := range opts {
			if err := unix.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil {
				failed = fmt.Errorf("set socket option %d/%d to %d: %w", o.level, o.name, o.value, err)
				return
			}
		}
	})
	return errors.Join(err, failed)
}

// readFull reads an echo of n bytes and tells how many came.
func readFull(conn net.Conn, n int) (int, error) { return io.ReadFull(conn, make([]byte, n)) }
