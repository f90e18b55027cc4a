// SPDX-License-Identifier: Apache-2.0

package node

// This file reads the counters of UDP of a namespace.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// DatagramStats are counters of UDP, of one family, since the namespace began.
type DatagramStats struct {
	NoPorts uint64 // datagrams that came for a port that no socket takes them at (UDP_MIB_NOPORTS)
	Sent    uint64 // datagrams that sockets sent (UDP_MIB_OUTDATAGRAMS)
}

// Datagrams reads them. It fails with ErrGone, or fs.ErrNotExist where the family is not.
func (n *Namespaces) Datagrams(inode uint32, v6 bool) (s DatagramStats, err error) {
	name, read := "snmp", readSNMP
	if v6 {
		name, read = "snmp6", readSNMP6
	}
	err = n.Do(inode, func() error {
		file, err := os.Open("/proc/thread-self/net/" + name)
		if err != nil {
			return err
		}
		s, err = read(file)
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return s, fmt.Errorf("%s: counters of UDP: %w", n.Place(inode), err)
	}
	return s, nil
}

// readSNMP reads what snmp_seq_show prints (net/ipv4/proc.c, 5.10 to 6.18): of each
// protocol a line of names and one of numbers, both begun with its name.
func readSNMP(r io.Reader) (s DatagramStats, err error) {
	lines := bufio.NewScanner(r)
	var names []string
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, field := range fields[1:] {
			if i+1 < len(names) {
				if err := s.take(names[i+1], field); err != nil {
					return s, err
				}
			}
		}
		return s, nil
	}
	return s, errors.Join(errors.New("no counters of UDP"), lines.Err())
}

// readSNMP6 reads what snmp6_seq_show prints (net/ipv6/proc.c): a name and a number a line.
func readSNMP6(r io.Reader) (s DatagramStats, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 {
			continue
		}
		if name, ok := strings.CutPrefix(fields[0], "Udp6"); ok {
			if err := s.take(name, fields[1]); err != nil {
				return s, err
			}
		}
	}
	return s, lines.Err()
}

// take reads one counter; those that are of no matter are left out.
func (s *DatagramStats) take(name, value string) (err error) {
	var to *uint64
	switch name {
	case "NoPorts":
		to = &s.NoPorts
	case "OutDatagrams":
		to = &s.Sent
	default:
		return nil
	}
	if *to, err = strconv.ParseUint(value, 10, 64); err != nil {
		return fmt.Errorf("counter %s: %w", name, err)
	}
	return nil
}
