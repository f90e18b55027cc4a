// SPDX-License-Identifier: Apache-2.0

package node

// This file reads which netfilter queues of a namespace programs listen on. It
// reads them from proc: asking nfnetlink would load its module.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// PacketQueue is a queue that a program listens on (NFQUEUE, nft's queue).
type PacketQueue struct {
	Number uint16
	Port   uint32 // netlink port of the listener: its process id, mostly
	// Waiting is how many packets it has not taken yet, Dropped how many found no
	// room in it, and Lost how many its socket had none for.
	Waiting, Dropped, Lost uint64
}

// PacketQueues lists the queues of a namespace that have a listener.
func (n *Namespaces) PacketQueues(inode uint32) (all []PacketQueue, err error) {
	err = n.Do(inode, func() error {
		file, err := os.Open("/proc/thread-self/net/netfilter/nfnetlink_queue")
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nfnetlink_queue is not loaded: nobody can listen
		}
		if err != nil {
			return err
		}
		all, err = readPacketQueues(file)
		return errors.Join(err, file.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("%s: netfilter queues: %w", n.Place(inode), err)
	}
	return all, nil
}

// readPacketQueues reads what seq_show prints (net/netfilter/nfnetlink_queue.c,
// 5.17 to 7.3): number, port, waiting, copy mode and range, dropped, lost, last id, 1.
func readPacketQueues(r io.Reader) (all []PacketQueue, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 {
			return nil, fmt.Errorf("line %q", lines.Text())
		}
		var n [7]uint64
		for i := range n {
			if n[i], err = strconv.ParseUint(fields[i], 10, 32); err != nil {
				return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
			}
		}
		all = append(all, PacketQueue{Number: uint16(n[0]), Port: uint32(n[1]), Waiting: n[2], Dropped: n[5], Lost: n[6]})
	}
	return all, lines.Err()
}
