// SPDX-License-Identifier: Apache-2.0

// Package echo has servers that send back what comes, over TCP and UDP:
// goroutines of this process whose sockets live in a network namespace.
package echo

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/socket"
)

// idleLimit ends a TCP echo connection that nobody uses.
const idleLimit = 30 * time.Second

// Server is a running server.
type Server struct {
	close func() error
	done  sync.WaitGroup
}

// Serve starts an echo server for "tcp" or "udp" in a namespace, on an address;
// nil: on all, IPv4 and IPv6.
func Serve(ns *netns.Namespace, proto string, ip net.IP, port int) (*Server, error) {
	switch proto {
	case "tcp":
		return serveTCP(ns, ip, port)
	case "udp":
		return serveUDP(ns, ip, port)
	}
	return nil, fmt.Errorf("cannot serve %q: take tcp or udp", proto)
}

// Close ends the server and waits until it has ended.
func (s *Server) Close() error {
	err := s.close()
	s.done.Wait()
	return err
}

func serveTCP(ns *netns.Namespace, ip net.IP, port int) (*Server, error) {
	var ln *net.TCPListener
	err := ns.Do(func() (err error) {
		ln, err = net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: port})
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &tcpServer{conns: map[net.Conn]bool{}}
	l := &Server{close: func() error { return errors.Join(ln.Close(), s.closeAll()) }}
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

func serveUDP(ns *netns.Namespace, ip net.IP, port int) (*Server, error) {
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
	if err := socket.Set(conn, socket.Option{Level: unix.IPPROTO_IP, Name: unix.IP_MTU_DISCOVER, Value: unix.IP_PMTUDISC_DONT}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	l := &Server{close: conn.Close}
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
