// SPDX-License-Identifier: Apache-2.0

package node

// This file reads the WireGuard devices of a namespace, as `wg show` does. The kernel
// gives their keys along with the rest: those that are secret are not looked at, not
// kept, and overwritten where they were received (but for the library's buffer, which
// is the garbage collector's). A library that has them in its answer is not used.

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WireGuard is a WireGuard device, without its private key.
type WireGuard struct {
	LinkIndex  int
	PublicKey  string // base64, as wg prints it; "" where the device has no key yet
	ListenPort uint16 // UDP
	FwMark     uint32 // of what it sends; 0: none
	Peers      []WireGuardPeer
}

// WireGuardPeer is a far end that a device knows, without a preshared key.
type WireGuardPeer struct {
	PublicKey  string         // base64, as wg prints it
	Endpoint   netip.AddrPort // where it was heard last, or was told to be; invalid: not known
	AllowedIPs []netip.Prefix
	// Handshake is when both agreed on a key last; zero: never. A key is good for
	// 180 seconds (REJECT_AFTER_TIME, drivers/net/wireguard/messages.h).
	Handshake time.Time
	Received  uint64 // bytes of all messages from it, handshakes included
	Sent      uint64
}

// Allows tells whether an address is among the peer's allowed IPs.
func (p *WireGuardPeer) Allows(addr netip.Addr) bool { return p.longest(addr) >= 0 }

// longest is the length of the longest of the allowed IPs that hold an address; -1:
// none does.
func (p *WireGuardPeer) longest(addr netip.Addr) int {
	bits := -1
	for _, allowed := range p.AllowedIPs {
		if allowed.Contains(addr) {
			bits = max(bits, allowed.Bits())
		}
	}
	return bits
}

// PeerOf is the peer that the device sends to for an address, and that it takes it
// from: the one with the longest prefix that holds it (lookup,
// drivers/net/wireguard/allowedips.c). Nil: none.
func (w *WireGuard) PeerOf(addr netip.Addr) (found *WireGuardPeer) {
	bits := -1
	for i := range w.Peers {
		if b := w.Peers[i].longest(addr); b > bits {
			bits, found = b, &w.Peers[i]
		}
	}
	return found
}

// Names and numbers of WireGuard's generic netlink (linux/wireguard.h).
const (
	wgFamily    = "wireguard"
	wgVersion   = 1
	wgGetDevice = 0

	wgDeviceIndex      = 1
	wgDevicePrivateKey = 3
	wgDevicePublicKey  = 4
	wgDeviceListenPort = 6
	wgDeviceFwMark     = 7
	wgDevicePeers      = 8

	wgPeerPublicKey    = 1
	wgPeerPresharedKey = 2
	wgPeerEndpoint     = 4
	wgPeerHandshake    = 6
	wgPeerReceived     = 7
	wgPeerSent         = 8
	wgPeerAllowedIPs   = 9

	wgAllowedAddr = 2
	wgAllowedBits = 3

	wgKeyLen = 32
)

// WireGuard lists the WireGuard devices of a namespace by index. The kernel is asked
// only where there is one, so that no module is loaded by it.
func (n *Namespaces) WireGuard(inode uint32) (all []WireGuard, err error) {
	links, err := n.Links(inode)
	if err != nil {
		return nil, err
	}
	var indexes []int
	for _, l := range links {
		if l.Kind == "wireguard" {
			indexes = append(indexes, l.Index)
		}
	}
	if len(indexes) == 0 {
		return nil, nil
	}
	err = n.Do(inode, func() error {
		family, err := familyID(wgFamily)
		if err != nil {
			return fmt.Errorf("find its netlink family: %w", err)
		}
		if family == 0 {
			return nil // the module went with the devices meanwhile
		}
		for _, index := range indexes {
			answers, err := dump(func() ([][]byte, error) { return askWireGuard(family, index) })
			if err != nil {
				return fmt.Errorf("device %d: %w", index, err)
			}
			w, err := readWireGuard(answers)
			if err != nil {
				return fmt.Errorf("device %d: %w", index, err)
			}
			w.LinkIndex = index
			all = append(all, w)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: WireGuard: %w", n.Place(inode), err)
	}
	return all, nil
}

func askWireGuard(family uint16, index int) ([][]byte, error) {
	req := nl.NewNetlinkRequest(int(family), unix.NLM_F_DUMP)
	req.AddData(genlHeader{wgGetDevice, wgVersion})
	req.AddData(nl.NewRtAttr(wgDeviceIndex, nl.Uint32Attr(uint32(index))))
	return req.Execute(unix.NETLINK_GENERIC, 0)
}

// wgAttr is one attribute.
type wgAttr struct {
	kind  uint16
	value []byte
}

// wgAttrs splits attributes; what is nested is marked so or not.
func wgAttrs(raw []byte) (all []wgAttr, err error) {
	attrs, err := nl.ParseRouteAttr(raw)
	if err != nil {
		return nil, err
	}
	for _, a := range attrs {
		all = append(all, wgAttr{a.Attr.Type &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER), a.Value})
	}
	return all, nil
}

// readWireGuard puts the messages about one device together: what did not fit in one
// goes on in the next, and so may a single peer's allowed IPs.
func readWireGuard(messages [][]byte) (w WireGuard, err error) {
	for _, m := range messages {
		if len(m) < nl.SizeofGenlmsg {
			return w, fmt.Errorf("an answer of %d bytes", len(m))
		}
		attrs, err := wgAttrs(m[nl.SizeofGenlmsg:])
		if err != nil {
			return w, err
		}
		for _, a := range attrs {
			switch v := a.value; a.kind {
			case wgDevicePrivateKey:
				clear(v)
			case wgDevicePublicKey:
				w.PublicKey = wgKey(v)
			case wgDeviceListenPort:
				if len(v) >= 2 {
					w.ListenPort = binary.NativeEndian.Uint16(v)
				}
			case wgDeviceFwMark:
				number32(v, &w.FwMark)
			case wgDevicePeers:
				if err := w.readPeers(v); err != nil {
					return w, err
				}
			}
		}
	}
	return w, nil
}

func (w *WireGuard) readPeers(raw []byte) error {
	peers, err := wgAttrs(raw)
	if err != nil {
		return err
	}
	for _, one := range peers {
		p, err := readWireGuardPeer(one.value)
		if err != nil {
			return err
		}
		if n := len(w.Peers); n > 0 && w.Peers[n-1].PublicKey == p.PublicKey {
			w.Peers[n-1].AllowedIPs = append(w.Peers[n-1].AllowedIPs, p.AllowedIPs...)
			continue
		}
		w.Peers = append(w.Peers, p)
	}
	return nil
}

func readWireGuardPeer(raw []byte) (p WireGuardPeer, err error) {
	attrs, err := wgAttrs(raw)
	if err != nil {
		return p, err
	}
	for _, a := range attrs {
		switch v := a.value; a.kind {
		case wgPeerPublicKey:
			p.PublicKey = wgKey(v)
		case wgPeerPresharedKey:
			clear(v)
		case wgPeerEndpoint:
			p.Endpoint = sockaddr(v)
		case wgPeerHandshake: // struct __kernel_timespec
			if len(v) < 16 {
				return p, fmt.Errorf("time of a handshake: %w", errShort)
			}
			if sec, ns := int64(binary.NativeEndian.Uint64(v)), int64(binary.NativeEndian.Uint64(v[8:])); sec != 0 || ns != 0 {
				p.Handshake = time.Unix(sec, ns)
			}
		case wgPeerReceived, wgPeerSent:
			if len(v) < 8 {
				return p, fmt.Errorf("count of bytes: %w", errShort)
			}
			count := binary.NativeEndian.Uint64(v)
			if a.kind == wgPeerReceived {
				p.Received = count
			} else {
				p.Sent = count
			}
		case wgPeerAllowedIPs:
			if err := p.readAllowed(v); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

func (p *WireGuardPeer) readAllowed(raw []byte) error {
	all, err := wgAttrs(raw)
	if err != nil {
		return err
	}
	for _, one := range all {
		attrs, err := wgAttrs(one.value)
		if err != nil {
			return err
		}
		var addr netip.Addr
		bits, ok := -1, false
		for _, a := range attrs {
			switch a.kind {
			case wgAllowedAddr:
				addr, ok = netip.AddrFromSlice(a.value)
			case wgAllowedBits:
				if len(a.value) > 0 {
					bits = int(a.value[0])
				}
			}
		}
		prefix := netip.PrefixFrom(addr, bits)
		if !ok || !prefix.IsValid() {
			return fmt.Errorf("allowed IPs: no prefix in %d bytes", len(one.value))
		}
		p.AllowedIPs = append(p.AllowedIPs, prefix)
	}
	return nil
}

// wgKey is a public key as wg prints it; "" for none, which is all zeros.
func wgKey(raw []byte) string {
	if len(raw) != wgKeyLen || strings.Trim(string(raw), "\x00") == "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// sockaddr reads struct sockaddr_in or sockaddr_in6: family, port, and the address
// behind the port, or behind port and flow label.
func sockaddr(raw []byte) (at netip.AddrPort) {
	if len(raw) < 8 {
		return at
	}
	port := binary.BigEndian.Uint16(raw[2:])
	switch family := binary.NativeEndian.Uint16(raw); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), port)
	case family == unix.AF_INET6 && len(raw) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:24])).Unmap(), port)
	}
	return at
}
