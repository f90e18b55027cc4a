// SPDX-License-Identifier: Apache-2.0

// Package ipset asks the kernel about the ipsets of a network namespace: which
// name an index in a rule stands for, of which type a set is, and whether a
// packet is in it. It uses questions only that change nothing and hold nothing:
// a set can be destroyed or swapped by its owner at any moment. The one dump
// made is that of a list:set, whose members cannot be had otherwise; while it
// runs (microseconds) that set alone cannot be destroyed.
package ipset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Errors that callers tell apart.
var (
	// ErrNoSupport: the kernel has no ipsets, or their module is not loaded.
	ErrNoSupport = errors.New("ip_set is not loaded")
	// ErrNoSet: there is no such set (any more).
	ErrNoSet = errors.New("no such ipset")
)

// Questions by socket option (linux/netfilter/ipset/ip_set.h). Unlike those by
// netlink they never make the kernel load a module.
const (
	soIPSet      = 83    // SO_IP_SET
	opByIndex    = 0x7   // IP_SET_OP_GET_BYINDEX
	opVersion    = 0x100 // IP_SET_OP_VERSION
	maxNameLen   = 32    // IPSET_MAXNAMELEN
	protocol     = 6     // IPSET_PROTOCOL_MIN: spoken by every kernel since 2.6.39
	maxSets      = 65534 // ip_set_id_t, without IPSET_INVALID_ID
	waitSeconds  = 10    // the kernel answers at once
	versionLen   = 8     // struct ip_set_req_version
	getSetLen    = 40    // struct ip_set_req_get_set
	getSetOffset = 8     // its union: name or index (u16)
)

// Set is what is known of an ipset besides its elements.
type Set struct {
	Name     string
	Type     string // hash:ip, hash:net,port, bitmap:port, list:set, ...
	Family   uint8  // unix.AF_INET, AF_INET6, or AF_UNSPEC where the type has none
	Revision uint8
}

// List tells that its elements are sets.
func (s Set) List() bool { return s.Type == "list:set" }

// Dimensions are the parts of an element, such as net and port; none for a
// list:set, whose elements are sets.
func (s Set) Dimensions() []string {
	method, parts, _ := strings.Cut(s.Type, ":")
	if method == "list" {
		return nil
	}
	return strings.Split(parts, ",")
}

// Sets asks about the ipsets of one network namespace. It may be used from any
// thread, and from several.
type Sets struct {
	fd      int
	netlink *nl.SocketHandle
}

// Open opens the ipsets of the calling thread's network namespace; it needs
// CAP_NET_ADMIN. It fails with ErrNoSupport if the kernel has none.
func Open() (*Sets, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, explain("open ipsets", err)
	}
	s := &Sets{fd: fd}
	// The option is registered by the code that answers netlink, so once it is
	// known to be there, opening netlink loads nothing.
	version := make([]byte, versionLen)
	binary.NativeEndian.PutUint32(version, opVersion)
	if err := s.get(version); err != nil {
		return nil, errors.Join(explain("open ipsets", err), unix.Close(fd))
	}
	if got := binary.NativeEndian.Uint32(version[4:]); got < protocol {
		return nil, errors.Join(fmt.Errorf("open ipsets: the kernel speaks protocol %d, want %d or later", got, protocol), unix.Close(fd))
	}
	conn, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, errors.Join(explain("open ipsets: netlink", err), unix.Close(fd))
	}
	s.netlink = &nl.SocketHandle{Socket: conn}
	if err := conn.SetReceiveTimeout(&unix.Timeval{Sec: waitSeconds}); err != nil {
		return nil, errors.Join(fmt.Errorf("open ipsets: netlink: %w", err), s.Close())
	}
	return s, nil
}

// ReadNames gives the names of all ipsets of the calling thread's network
// namespace. It fails as Open does.
func ReadNames() (names Names, err error) {
	sets, err := Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sets.Close()) }()
	return sets.Names()
}

// Close ends it.
func (s *Sets) Close() error {
	s.netlink.Close()
	return unix.Close(s.fd)
}

// explain makes one line of what the kernel refused.
func explain(what string, err error) error {
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return fmt.Errorf("%s: %w", what, ErrNoSupport)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: not allowed to: run as root or with CAP_NET_ADMIN: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// get is getsockopt with a buffer that carries question and answer.
func (s *Sets) get(buf []byte) error {
	length := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.IPPROTO_IP, soIPSet,
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Name is the name of the set that rules know by an index. It fails with
// ErrNoSet if there is none.
func (s *Sets) Name(index uint16) (string, error) {
	name, err := s.byIndex(index)
	if errors.Is(err, unix.EINVAL) { // beyond the kernel's list
		err = ErrNoSet
	}
	if err == nil && name == "" {
		err = ErrNoSet
	}
	if err != nil {
		return "", explain(fmt.Sprintf("ipset %d", index), err)
	}
	return name, nil
}

// byIndex gives "" for an index that is free, EINVAL for one beyond the list.
func (s *Sets) byIndex(index uint16) (string, error) {
	buf := make([]byte, getSetLen)
	binary.NativeEndian.PutUint32(buf, opByIndex)
	binary.NativeEndian.PutUint32(buf[4:], protocol)
	binary.NativeEndian.PutUint16(buf[getSetOffset:], index)
	if err := s.get(buf); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(buf[getSetOffset:][:maxNameLen]), nil
}

// Names are the names of sets by the index that rules know them by.
type Names map[uint16]string

// SetName is the name of a set; false: there was none of that index.
func (n Names) SetName(index uint16) (string, bool) {
	name, ok := n[index]
	return name, ok
}

// Names lists all sets there are now.
func (s *Sets) Names() (Names, error) {
	all := Names{}
	for index := range maxSets + 1 {
		name, err := s.byIndex(uint16(index))
		if errors.Is(err, unix.EINVAL) {
			break
		}
		if err != nil {
			return nil, explain("list ipsets", err)
		}
		if name != "" {
			all[uint16(index)] = name
		}
	}
	return all, nil
}
