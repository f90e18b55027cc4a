// SPDX-License-Identifier: Apache-2.0

// Package traffic sends small exchanges from one place of a cluster to another
// and tells what became of them, as the sender saw it: tests compare that with
// what the tracer says. And floods, with exact counts.
package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/socket"
)

// Spec describes an exchange.
type Spec struct {
	Proto string // icmp, tcp, udp
	// Src is a pod (namespace/name), "node1", "node2" or "external". Dst may
	// also be an address or "svc:namespace/name".
	Src, Dst     string
	Port         int           // 0: DefaultPort; a service's own port
	IPv6         bool          // use the pods' IPv6 addresses
	Count        int           // exchanges, 0: 3; TCP makes them over one connection
	Size         int           // payload bytes, 0: 56
	DontFragment bool          // set DF and heed no path MTU; ICMP and UDP
	TTL          int           // 0: the system's own
	Interval     time.Duration // between exchanges, 0: none
	Timeout      time.Duration // for connecting, and for each reply; 0: 1 s
	Source       netip.Addr    // send from this address, which must be the source's
	Mute         bool          // send nothing, and wait in vain
}

// Outcome is what the sender of traffic saw.
type Outcome string

// Outcomes.
const (
	Answered    Outcome = "answered"    // every exchange was answered
	Partial     Outcome = "partial"     // some were
	Refused     Outcome = "refused"     // reset, or ICMP port unreachable
	Unreachable Outcome = "unreachable" // an ICMP error other than port unreachable, or no neighbour
	TooBig      Outcome = "too-big"     // ICMP fragmentation needed or packet too big
	TTLExceeded Outcome = "ttl-exceeded"
	TimedOut    Outcome = "timed-out" // silence
	NotSent     Outcome = "not-sent"  // the sender's own stack refused: no route, or a local rule
)

// Result is what became of an exchange.
type Result struct {
	Traffic  Spec
	Outcome  Outcome
	Sent     int // messages handed to the socket (TCP: once connected)
	Received int // answers
	Bytes    int // payload bytes that came back
	Local    netip.AddrPort
	Remote   netip.AddrPort
	RTT      []time.Duration // one per answer; TCP: of the exchange, not the handshake
	Connect  time.Duration   // TCP: the handshake
	Errors   []string        // ICMP errors and socket errors, in order
}

// String is one line for people.
func (r Result) String() string {
	s := fmt.Sprintf("%s %s -> %s: %s, %d sent, %d answered", r.Traffic.Proto, r.Traffic.Src, r.Traffic.Dst, r.Outcome, r.Sent, r.Received)
	if len(r.Errors) > 0 {
		s += " (" + strings.Join(r.Errors, "; ") + ")"
	}
	return s
}

// WithDefaults is the traffic with every zero that stands for a default replaced.
func (t Spec) WithDefaults() Spec {
	set := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	set(&t.Port, cluster.DefaultPort)
	set(&t.Count, 3)
	set(&t.Size, 56)
	if t.Timeout == 0 {
		t.Timeout = time.Second
	}
	return t
}

// Send runs an exchange. An error means that it could not be tried at all; what
// went wrong with the packets is in the result.
func Send(ctx context.Context, e *cluster.Env, t Spec) (Result, error) {
	src, err := place(e, t.Src)
	if err != nil {
		return Result{}, fmt.Errorf("traffic source: %w", err)
	}
	dst, port, err := Resolve(e, t)
	if err != nil {
		return Result{}, fmt.Errorf("traffic destination: %w", err)
	}
	if t.Port == 0 {
		t.Port = port
	}
	t = t.WithDefaults()
	send := map[string]func(context.Context, *netns.Namespace, netip.Addr, Spec) (Result, error){
		"icmp": ping, "tcp": sendTCP, "udp": sendUDP,
	}[t.Proto]
	if send == nil {
		return Result{}, fmt.Errorf("traffic protocol %q: take icmp, tcp or udp", t.Proto)
	}
	if t.Mute {
		pause(ctx, t.Timeout)
		return Result{Traffic: t, Outcome: TimedOut}, ctx.Err()
	}
	r, err := send(ctx, src, dst, t)
	r.Traffic = t
	if err == nil {
		err = ctx.Err()
	}
	return r, err
}

// place returns the namespace that a name stands for: a pod's namespace/name,
// node1, node2 or external.
func place(e *cluster.Env, name string) (*netns.Namespace, error) {
	if name == "external" {
		return e.Underlay, nil
	}
	for _, node := range e.Nodes {
		if node.Name == name {
			return node.Netns, nil
		}
	}
	if pod := e.Pod(name); pod != nil {
		return pod.Netns, nil
	}
	return nil, fmt.Errorf("%q is neither a pod, a node nor external in this environment", name)
}

// Resolve finds a destination's address, and the port that belongs to it.
func Resolve(e *cluster.Env, t Spec) (netip.Addr, int, error) {
	if addr, err := netip.ParseAddr(t.Dst); err == nil {
		return addr, 0, nil
	}
	if name, ok := strings.CutPrefix(t.Dst, "svc:"); ok {
		if s, ok := e.Service(name); ok {
			return s.ClusterIP, int(s.Port), nil
		}
		return netip.Addr{}, 0, fmt.Errorf("no service %q in this environment", name)
	}
	if pod := e.Pod(t.Dst); pod != nil {
		if t.IPv6 {
			return pod.IPv6, 0, nil
		}
		return pod.IPv4, 0, nil
	}
	for _, node := range e.Nodes {
		if node.Name == t.Dst {
			return node.Addr, 0, nil
		}
	}
	if t.Dst == "external" {
		return cluster.ExternalAddr, 0, nil
	}
	return netip.Addr{}, 0, fmt.Errorf("%q is neither an address, a pod, a node, a service nor external", t.Dst)
}

// ipOptions are the socket options that t asks for.
func ipOptions(t Spec, v6 bool) []socket.Option {
	var opts []socket.Option
	level, ttl, pmtu := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MTU_DISCOVER
	if v6 {
		level, ttl, pmtu = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MTU_DISCOVER
	}
	if t.TTL > 0 {
		opts = append(opts, socket.Option{Level: level, Name: ttl, Value: t.TTL})
	}
	switch {
	case t.Proto == "tcp": // always with path MTU discovery, as everywhere
	case t.DontFragment:
		opts = append(opts, socket.Option{Level: level, Name: pmtu, Value: unix.IP_PMTUDISC_PROBE})
	default:
		opts = append(opts, socket.Option{Level: level, Name: pmtu, Value: unix.IP_PMTUDISC_DONT})
	}
	return opts
}

// dial makes a connected socket in a namespace.
func dial(ctx context.Context, ns *netns.Namespace, dst netip.Addr, t Spec) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: t.Timeout, Control: func(_, _ string, raw syscall.RawConn) error {
		if err := inNetns(ns); err != nil {
			return err
		}
		return socket.Control(raw, ipOptions(t, dst.Is6()))
	}}
	if t.Source.IsValid() {
		d.LocalAddr = map[string]net.Addr{
			"tcp": &net.TCPAddr{IP: t.Source.AsSlice()}, "udp": &net.UDPAddr{IP: t.Source.AsSlice()},
		}[t.Proto]
	}
	err = ns.Do(func() error {
		conn, err = d.DialContext(ctx, t.Proto, netip.AddrPortFrom(dst, uint16(t.Port)).String())
		return err
	})
	return conn, err
}

// inNetns makes sure that the calling thread is in ns: the socket was made on
// the thread that entered it, and not handed to another goroutine.
func inNetns(ns *netns.Namespace) error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return err
	}
	if st.Ino != ns.Inode {
		return fmt.Errorf("socket was made outside %s", ns.Name)
	}
	return nil
}

func sendTCP(ctx context.Context, ns *netns.Namespace, dst netip.Addr, t Spec) (Result, error) {
	r := Result{Remote: netip.AddrPortFrom(dst, uint16(t.Port))}
	start := time.Now()
	conn, err := dial(ctx, ns, dst, t)
	r.Connect = time.Since(start)
	if err != nil {
		r.fail(err)
		return r, r.local(err)
	}
	defer conn.Close()
	r.Local = conn.LocalAddr().(*net.TCPAddr).AddrPort()
	for i := 0; i < t.Count && ctx.Err() == nil; i++ {
		start := time.Now()
		if err := exchangeTCP(conn, t, &r); err != nil {
			r.fail(err)
			break
		}
		r.RTT = append(r.RTT, time.Since(start))
		pause(ctx, t.Interval)
	}
	r.conclude(t)
	if r.Outcome == Answered {
		r.hangUp(conn, t)
	}
	return r, nil
}

// hangUp ends a connection and waits until the other side has done so too. With
// a FIN under way that a fault then swallows it would go on for seconds, and
// into what is sent next.
func (r *Result) hangUp(conn net.Conn, t Spec) {
	err := conn.SetDeadline(time.Now().Add(t.Timeout))
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		err = tcp.CloseWrite()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, conn)
	}
	if err != nil {
		r.Errors = append(r.Errors, "close: "+shortError(err))
	}
}

// exchangeTCP sends one payload and reads it back.
func exchangeTCP(conn net.Conn, t Spec, r *Result) error {
	if err := conn.SetDeadline(time.Now().Add(t.Timeout)); err != nil {
		return err
	}
	if _, err := conn.Write(make([]byte, t.Size)); err != nil {
		return err
	}
	r.Sent++
	n, err := io.ReadFull(conn, make([]byte, t.Size))
	r.Bytes += n
	if err == nil {
		r.Received++
	}
	return err
}

func sendUDP(ctx context.Context, ns *netns.Namespace, dst netip.Addr, t Spec) (Result, error) {
	r := Result{Remote: netip.AddrPortFrom(dst, uint16(t.Port))}
	conn, err := dial(ctx, ns, dst, t)
	if err != nil {
		r.fail(err)
		return r, r.local(err)
	}
	defer conn.Close()
	r.Local = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	for i := 0; i < t.Count && ctx.Err() == nil; i++ {
		start := time.Now()
		if err := exchangeUDP(conn, uint32(i), t, &r); err != nil {
			r.fail(err)
		} else {
			r.RTT = append(r.RTT, time.Since(start))
		}
		pause(ctx, t.Interval)
	}
	r.conclude(t)
	return r, nil
}

// exchangeUDP sends one numbered datagram and waits for the same to come back.
func exchangeUDP(conn net.Conn, number uint32, t Spec, r *Result) error {
	out := make([]byte, max(t.Size, 4))
	binary.BigEndian.PutUint32(out, number)
	if err := conn.SetDeadline(time.Now().Add(t.Timeout)); err != nil {
		return err
	}
	if _, err := conn.Write(out); err != nil {
		return err
	}
	r.Sent++
	in := make([]byte, len(out)+1)
	for {
		n, err := conn.Read(in)
		if err != nil {
			return err
		}
		if n >= 4 && binary.BigEndian.Uint32(in) == number {
			r.Received++
			r.Bytes += n
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// errnoOutcome tells what a socket error means for the packet.
var errnoOutcome = map[syscall.Errno]Outcome{
	unix.ECONNREFUSED: Refused, unix.ECONNRESET: Refused, unix.EPIPE: Refused,
	unix.EHOSTUNREACH: Unreachable, unix.ENETUNREACH: Unreachable, unix.EACCES: Unreachable,
	unix.EMSGSIZE: TooBig, unix.EPERM: NotSent, unix.EINVAL: NotSent, unix.ENETDOWN: NotSent, unix.ENOBUFS: NotSent,
}

// fail notes a socket error and what it means. The worst that was said stays.
func (r *Result) fail(err error) {
	r.Errors = append(r.Errors, shortError(err))
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if o, ok := errnoOutcome[errno]; ok {
			r.Outcome = o
			return
		}
	}
	if r.Outcome == "" && (errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err)) {
		r.Outcome = TimedOut
	}
}

// local returns err if it is no verdict on a packet but a fault of ours.
func (r *Result) local(err error) error {
	if r.Outcome == "" {
		return err
	}
	return nil
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func shortError(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// conclude settles the outcome from the counts; answers outweigh errors.
func (r *Result) conclude(t Spec) {
	switch {
	case r.Received >= t.Count:
		r.Outcome = Answered
	case r.Received > 0:
		r.Outcome = Partial
	case r.Outcome == "":
		r.Outcome = TimedOut
	}
	r.Errors = slices.Compact(r.Errors)
}
