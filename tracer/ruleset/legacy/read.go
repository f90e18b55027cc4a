// SPDX-License-Identifier: Apache-2.0

package legacy

// This file asks the kernel for its tables. Asking for a table that is not
// there would create it, with hooks that every packet then runs through, so
// only tables listed in /proc are asked for. All of it is about the network
// namespace of the calling thread: run it within node.Namespaces.Do.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"golang.org/x/sys/unix"
)

// Socket options (linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/
// ip6_tables.h; the numbers are the same in both).
const (
	soGetInfo    = 64 // IPT_SO_GET_INFO
	soGetEntries = 65 // IPT_SO_GET_ENTRIES
)

// attempts bounds how often a table that is replaced while it is read is asked
// for again. kube-proxy replaces one at most once a second.
const attempts = 20

// procNames is where the tables of the calling thread's namespace are listed
// (net/netfilter/x_tables.c, xt_proto_init).
func procNames(family string) (string, error) {
	switch family {
	case IPv4:
		return "/proc/thread-self/net/ip_tables_names", nil
	case IPv6:
		return "/proc/thread-self/net/ip6_tables_names", nil
	}
	return "", fmt.Errorf("family %q: want %q or %q", family, IPv4, IPv6)
}

// Names lists the tables of a family that the calling thread's network
// namespace has, in the kernel's order. Without ip_tables in the kernel there
// are none.
func Names(family string) ([]string, error) {
	path, err := procNames(family)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s tables: %w", family, err)
	}
	return strings.Fields(string(raw)), nil
}

// ReadAll reads all tables of both families of the calling thread's network
// namespace. A table that goes away meanwhile is left out.
func ReadAll() ([]*Table, error) {
	var all []*Table
	for _, family := range []string{IPv4, IPv6} {
		names, err := Names(family)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			t, err := Read(family, name)
			if errors.Is(err, ErrNoTable) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	return all, nil
}

// Read reads one table of the calling thread's network namespace. It fails with
// ErrNoTable if the namespace does not have it, with ErrChanging if it would
// not hold still, and needs CAP_NET_ADMIN.
func Read(family, name string) (*Table, error) { return ReadAgain(family, name, nil) }

// ReadAgain is Read for a table that was read before: if the rules are the same,
// whatever they have counted, it gives old itself. Names of ipsets are not asked
// for again then, by far the most work: a rule holds a reference to its set,
// which so can neither be renamed nor destroyed (ip_set_rename and
// ip_set_destroy, net/netfilter/ipset/ip_set_core.c, since 2.6.39); a swap leaves
// name and index together.
func ReadAgain(family, name string, old *Table) (*Table, error) {
	names, err := Names(family)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, name) {
		return nil, fmt.Errorf("%s table %q: %w", family, name, ErrNoTable)
	}
	s, err := open(family)
	if err != nil {
		return nil, err
	}
	t, err := s.read(name, old)
	if err := errors.Join(err, unix.Close(s.fd)); err != nil {
		return nil, err
	}
	if t.usesSets && t != old {
		if t.Sets, err = ipset.ReadNames(); err != nil {
			return nil, fmt.Errorf("%s table %s: %w", family, name, err)
		}
	}
	return t, nil
}

// socket is a socket that answers questions about the tables of a family.
type socket struct {
	fd     int
	family string
	level  int
}

func open(family string) (socket, error) {
	s := socket{family: family, level: unix.IPPROTO_IP}
	domain := unix.AF_INET
	if family == IPv6 {
		s.level, domain = unix.IPPROTO_IPV6, unix.AF_INET6
	}
	var err error
	s.fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return s, fmt.Errorf("read %s tables: not allowed to: run as root or with CAP_NET_RAW and CAP_NET_ADMIN: %w", family, err)
	}
	if err != nil {
		return s, fmt.Errorf("read %s tables: open a raw socket: %w", family, err)
	}
	return s, nil
}

// read asks for information and entries until both belong together.
func (s socket) read(name string, old *Table) (*Table, error) {
	var last error
	for range attempts {
		var t *Table
		err := s.once(name, func(info, entries []byte) (err error) {
			if old != nil && old.Family == s.family && old.same(info, entries) {
				t = old
				return nil
			}
			t, err = Parse(s.family, info, entries)
			return err
		})
		switch {
		case err == nil:
			return t, nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, ErrCorrupt):
			last = err // corrupt: old information with new entries of the same size, or really so
		default:
			return nil, s.explain(name, err)
		}
	}
	if errors.Is(last, ErrCorrupt) {
		return nil, last
	}
	return nil, fmt.Errorf("%s table %s: read %d times: %w", s.family, name, attempts, ErrChanging)
}

// once asks for information, entries and again information; EAGAIN tells that
// the table was replaced in between. The bytes are lent: they are many, and to be
// gone at once, not when garbage is collected.
func (s socket) once(name string, use func(info, entries []byte) error) (err error) {
	info, err := s.info(name)
	if err != nil {
		return err
	}
	size := u32(info[infoSize:])
	buf, err := unix.Mmap(-1, 0, entriesStart+int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("room for %d bytes: %w", size, err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(buf)) }()
	copy(buf[:tableNameLen-1], name)
	copy(buf[entriesSize:], info[infoSize:infoSize+4])
	if err := s.get(soGetEntries, buf); err != nil {
		return err
	}
	again, err := s.info(name)
	if err != nil {
		return err
	}
	if !bytes.Equal(info, again) {
		return unix.EAGAIN
	}
	return use(info, buf[entriesStart:])
}

func (s socket) info(name string) ([]byte, error) {
	info := make([]byte, infoLen)
	copy(info[:tableNameLen-1], name)
	return info, s.get(soGetInfo, info)
}

// get is getsockopt with a buffer that carries the question in and the answer
// out; the kernel insists on the exact length.
func (s socket) get(option int, buf []byte) error {
	length := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(s.level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&length)), 0)
	switch {
	case errno != 0:
		return errno
	case length != uint32(len(buf)):
		return unix.EAGAIN
	}
	return nil
}

// explain makes one line of why the kernel did not give a table.
func (s socket) explain(name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOPROTOOPT):
		return fmt.Errorf("%s table %s: %w: %w", s.family, name, ErrNoTable, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s table %s: not allowed to read it: run as root or with CAP_NET_ADMIN: %w", s.family, name, err)
	}
	return fmt.Errorf("%s table %s: read: %w", s.family, name, err)
}
