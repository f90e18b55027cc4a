// SPDX-License-Identifier: Apache-2.0

package node

// This file finds the network namespaces: named ones by their files, the rest
// by the processes that run in them; and which of them belong to the node.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxPaths bounds how many processes are remembered as ways into a namespace.
const maxPaths = 4

// places is where namespaces are looked for; tests point it elsewhere.
type places struct {
	dirs []string // directories with namespace files
	proc string
}

// systemPlaces are where ip netns, the CNI runtimes (containerd, CRI-O) and
// Docker keep namespace files. Below a host root /var/run is left out: it is an
// absolute link to /run, which would lead out of it.
func systemPlaces(hostRoot string) places {
	if hostRoot == "" {
		return places{
			dirs: []string{"/run/netns", "/var/run/netns", "/run/docker/netns", "/var/run/docker/netns"},
			proc: "/proc",
		}
	}
	return places{
		dirs: []string{filepath.Join(hostRoot, "run/netns"), filepath.Join(hostRoot, "run/docker/netns")},
		proc: filepath.Join(hostRoot, "proc"),
	}
}

// Proc is where the host's /proc is mounted.
func (n *Namespaces) Proc() string { return n.places.proc }

// Refresh looks again: new pods appear, gone ones vanish.
func (n *Namespaces) Refresh() error {
	known, unreadable, err := n.places.scan()
	if err != nil {
		return err
	}
	self := known[n.node.Inode]
	self.Inode = n.node.Inode
	self.Paths = append([]string{n.node.Paths[0]}, self.Paths...)
	known[n.node.Inode] = self

	n.mu.Lock()
	n.known, n.unreadable = known, unreadable
	n.mu.Unlock()

	members, err := n.findMembers()
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.members = members
	n.mu.Unlock()
	return nil
}

// scan finds all namespaces, and counts the processes it may not look at.
func (p places) scan() (map[uint32]Namespace, int, error) {
	known := map[uint32]Namespace{}
	seen := map[string]bool{}
	for _, dir := range p.dirs {
		real, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, fs.ErrNotExist) || seen[real] {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("look for network namespaces: %w", err)
		}
		seen[real] = true
		if err := scanDir(real, known); err != nil {
			return nil, 0, err
		}
	}
	unreadable, err := scanProc(p.proc, known)
	return known, unreadable, err
}

// scanDir takes the namespace files of a directory. Stale plain files and
// namespaces of other kinds are passed over; they are common there.
func scanDir(dir string, known map[uint32]Namespace) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for network namespaces: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		file, inode, err := openNetns(path)
		if errors.Is(err, errNotNetns) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for network namespaces: %w", err)
		}
		if err := file.Close(); err != nil {
			return err
		}
		remember(known, inode, path, e.Name())
	}
	return nil
}

// scanProc takes the namespaces of all processes and counts those it may not
// read. Processes that end meanwhile are no error.
func scanProc(proc string, known map[uint32]Namespace) (unreadable int, err error) {
	dir, err := os.Open(proc)
	if err != nil {
		return 0, fmt.Errorf("look for network namespaces of processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, fmt.Errorf("look for network namespaces of processes: %w", err)
	}
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		path := filepath.Join(proc, name, "ns/net")
		target, err := os.Readlink(path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			unreadable++
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		case err != nil:
			return 0, fmt.Errorf("look for network namespaces of processes: %w", err)
		default:
			if inode, ok := parseNetLink(target); ok {
				remember(known, inode, path, "")
			}
		}
	}
	return unreadable, nil
}

// parseNetLink takes the number out of "net:[4026531833]".
func parseNetLink(target string) (uint32, bool) {
	digits, ok := strings.CutPrefix(target, "net:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 32)
	return uint32(inode), err == nil
}

// remember notes one way into a namespace; the first name wins.
func remember(known map[uint32]Namespace, inode uint32, path, name string) {
	ns := known[inode]
	ns.Inode = inode
	if ns.Name == "" {
		ns.Name = name
	}
	if name != "" || len(ns.Paths) < maxPaths {
		ns.Paths = append(ns.Paths, path)
	}
	known[inode] = ns
}

// findMembers finds the pods' namespaces: a veth of the node names its peer's
// namespace by the id the node's namespace has for it (IFLA_LINK_NETNSID), and
// RTM_GETNSID tells that id for each known namespace. Reading ids changes
// nothing one can see; the kernel hands them out by itself when links are
// listed (net/core/net_namespace.c, peernet2id_alloc).
func (n *Namespaces) findMembers() (map[uint32]bool, error) {
	links, err := n.rawLinks(n.nodeLink)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	up, err := n.uplinksOf(links)
	if err != nil {
		return nil, err
	}
	ids := map[int]bool{}
	for _, l := range links {
		if _, uplink := up[uint32(l.Index)]; !uplink && l.peerID >= 0 && pairKinds(l.Kind) {
			ids[l.peerID] = true
		}
	}
	members := map[uint32]bool{}
	if len(ids) > 0 {
		byID, err := n.namespaceIDs(n.nodeLink, nil)
		if err != nil {
			return nil, err
		}
		for id, inode := range byID {
			if ids[id] && inode != n.node.Inode {
				members[inode] = true
			}
		}
	}
	return members, n.addPeerless(members)
}

// pairKinds tells the kinds of links that come in pairs with one end in a pod.
func pairKinds(kind string) bool { return kind == "veth" || kind == "netkit" }

// namespaceIDs lists the ids that the handle's namespace has for the known
// namespaces: all of them, or, if wanted tells the ids that are asked for, at
// least those. The node's comes first: it is the one that pods have links to, and
// on a node of many pods each further question counts. Namespaces that go away
// meanwhile are left out.
func (n *Namespaces) namespaceIDs(h *netlink.Handle, wanted map[int]bool) (map[int]uint32, error) {
	ids := map[int]uint32{}
	missing := len(wanted)
	for _, inode := range append([]uint32{n.node.Inode}, n.All()...) {
		if wanted != nil && missing == 0 {
			break
		}
		file, err := n.open(inode)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		id, err := h.GetNetNsIdByFd(int(file.Fd()))
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("netns %d: ask its id: %w", inode, err)
		}
		if id < 0 { // NETNSA_NSID_NOT_ASSIGNED is -1
			continue
		}
		if _, known := ids[id]; !known && wanted[id] {
			missing--
		}
		ids[id] = inode
	}
	return ids, nil
}

// IDs maps the ids that the node's namespace has for other namespaces to their
// inode numbers, as far as Refresh knows them. The kernel names the origin of
// what it tells of other namespaces by these ids.
func (n *Namespaces) IDs() (map[int]uint32, error) { return n.namespaceIDs(n.nodeLink, nil) }
