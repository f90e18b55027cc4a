// SPDX-License-Identifier: Apache-2.0

// Package node tells how the node stands: its network namespaces and which of
// them belong to it, their links and addresses, the interfaces that lead off
// the node, and the packet-filter hooks registered. It only reads. In
// particular it never asks a kernel subsystem that is not there yet, since
// asking makes the kernel load the module or create the table, and it holds no
// pod's namespace open, since that would keep a deleted pod's interfaces alive.
package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrGone: the network namespace does not exist any more, or never was seen.
var ErrGone = errors.New("no such network namespace")

// Namespace is one network namespace. Its inode number is its identity.
type Namespace struct {
	Inode uint32
	Name  string   // file name in /run/netns or the like (cni-…, an ip netns name); "" for one known by its processes only
	Paths []string // where it can be opened: files in /run/netns, then /proc/PID/ns/net of some of its processes
}

// Namespaces are all network namespaces that can be reached from here, as of
// the last Refresh. It is safe for concurrent use.
type Namespaces struct {
	places   places
	nodeFile *os.File
	nodeLink *netlink.Handle // rtnetlink socket within the node's namespace
	node     Namespace
	builtin  builtins

	mu         sync.RWMutex
	known      map[uint32]Namespace
	members    map[uint32]bool
	unreadable int
}

// OpenNamespaces looks at the node whose network namespace is the file
// nodePath, or the one this process runs in for "".
func OpenNamespaces(nodePath string) (*Namespaces, error) { return OpenNamespacesAt("", nodePath) }

// OpenNamespacesAt is OpenNamespaces for a process in a container, in which
// the node's /proc and /run are mounted below hostRoot; "" is /. Below a host
// root the default is the namespace of the host's first process.
func OpenNamespacesAt(hostRoot, nodePath string) (*Namespaces, error) {
	path := nodePath
	switch {
	case path != "":
	case hostRoot != "":
		path = filepath.Join(hostRoot, "proc/1/ns/net")
	default:
		path = "/proc/self/ns/net"
	}
	file, inode, err := openNetns(path)
	if err != nil {
		return nil, explainPath(path, err)
	}
	n := &Namespaces{
		places:   systemPlaces(hostRoot),
		nodeFile: file,
		node:     Namespace{Inode: inode, Paths: []string{path}},
	}
	if n.nodeLink, err = n.handle(inode); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := n.Refresh(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close releases the node's namespace. Nothing may be asked after it.
func (n *Namespaces) Close() error {
	n.nodeLink.Close()
	return n.nodeFile.Close()
}

// openNetns opens a network-namespace file and tells its inode number. The
// file is checked before it is opened: /run/netns may hold stale plain files.
func openNetns(path string) (*os.File, uint32, error) {
	var sfs unix.Statfs_t
	if err := unix.Statfs(path, &sfs); err != nil {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if sfs.Type != unix.NSFS_MAGIC {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: errNotNetns}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	inode, err := netnsInode(file)
	if err != nil {
		return nil, 0, errors.Join(&fs.PathError{Op: "open", Path: path, Err: err}, file.Close())
	}
	return file, inode, nil
}

var errNotNetns = errors.New("is no network namespace")

// netnsInode checks that an open file is a network namespace
// (NS_GET_NSTYPE, ioctl_ns(2), since 4.11) and tells its inode number.
func netnsInode(file *os.File) (uint32, error) {
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return 0, errNotNetns
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return 0, err
	}
	return uint32(st.Ino), nil
}

// explainPath makes one line of what is wrong with the user's path.
func explainPath(path string, err error) error {
	const give = "give a namespace file such as /run/netns/NAME or /proc/PID/ns/net"
	switch {
	case errors.Is(err, fs.ErrNotExist) && !strings.Contains(path, "/") && isNetns("/run/netns/"+path):
		return fmt.Errorf("network namespace %q: no such file: did you mean /run/netns/%s?: %w", path, path, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotNetns):
		return fmt.Errorf("network namespace %q: %s: %w", path, give, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("network namespace %q: not allowed to open it: run as root: %w", path, err)
	}
	return fmt.Errorf("network namespace %q: %w", path, err)
}

func isNetns(path string) bool {
	file, _, err := openNetns(path)
	return err == nil && file.Close() == nil
}

// Node is the node's own network namespace.
func (n *Namespaces) Node() Namespace {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if ns, ok := n.known[n.node.Inode]; ok {
		return ns
	}
	return n.node
}

// Lookup is the namespace of that inode number, if Refresh saw it.
func (n *Namespaces) Lookup(inode uint32) (Namespace, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	ns, ok := n.known[inode]
	return ns, ok
}

// All lists the inode numbers of all known namespaces, in no order.
func (n *Namespaces) All() []uint32 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	all := make([]uint32, 0, len(n.known))
	for inode := range n.known {
		all = append(all, inode)
	}
	return all
}

// Unreadable counts the processes whose namespace this user may not see; what
// runs only there is not known.
func (n *Namespaces) Unreadable() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.unreadable
}

// Belongs tells whether a namespace is part of the node: its own, or that of a
// pod, meaning one at the other end of a veth of the node that is no uplink, or one
// with a device that stands on a device of the node (peerless.go).
// Other nodes on the same kernel (test nodes, the host of a containerised
// node) do not belong. It is as of the last Refresh.
func (n *Namespaces) Belongs(inode uint32) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return inode == n.node.Inode || n.members[inode]
}

// Members lists the namespaces that belong to the node besides its own.
func (n *Namespaces) Members() []uint32 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	all := make([]uint32, 0, len(n.members))
	for inode := range n.members {
		all = append(all, inode)
	}
	return all
}

// Place is what people call a namespace: "node", its name in /run/netns, or
// "netns 4026532000".
func (n *Namespaces) Place(inode uint32) string {
	if inode == n.node.Inode {
		return "node"
	}
	if ns, ok := n.Lookup(inode); ok && ns.Name != "" {
		return ns.Name
	}
	return fmt.Sprintf("netns %d", inode)
}

// open opens a known namespace; the caller closes it. A pod may be gone by now
// (ErrGone), or its path may lead to its successor, which is checked.
func (n *Namespaces) open(inode uint32) (*os.File, error) {
	if inode == n.node.Inode {
		return dup(n.nodeFile)
	}
	ns, ok := n.Lookup(inode)
	if !ok {
		return nil, fmt.Errorf("netns %d: %w", inode, ErrGone)
	}
	for _, path := range ns.Paths {
		file, got, err := openNetns(path)
		switch {
		case err == nil && got == inode:
			return file, nil
		case err == nil:
			if err := file.Close(); err != nil {
				return nil, err
			}
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("netns %d: not allowed to open it: run as root: %w", inode, err)
		}
	}
	return nil, fmt.Errorf("netns %d (%s): %w", inode, filepath.Base(ns.Paths[0]), ErrGone)
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Do runs fn on an operating-system thread of its own inside a namespace. What
// fn starts (goroutines) does not inherit it. It fails with ErrGone, with what
// entering failed with, or with fn's error.
func (n *Namespaces) Do(inode uint32, fn func() error) error {
	file, err := n.open(inode)
	if err != nil {
		return err
	}
	defer file.Close()
	done := make(chan error, 1)
	go func() {
		result := fmt.Errorf("netns %d: the function called in it never returned", inode)
		defer func() { done <- result }()
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread() // nothing was changed yet
			result = fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer home.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result = fmt.Errorf("enter netns %d: run as root with CAP_SYS_ADMIN: %w", inode, err)
			return
		}
		defer func() {
			// A thread that cannot go back stays locked: the runtime ends
			// it together with this goroutine.
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		result = fn()
	}()
	return <-done
}

// handle opens a netlink handle within a namespace. Only the route family is
// opened: sockets of other families make the kernel load modules.
func (n *Namespaces) handle(inode uint32) (h *netlink.Handle, err error) {
	err = n.Do(inode, func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return h, nil
}

// withHandle runs fn with a netlink handle of a namespace.
func (n *Namespaces) withHandle(inode uint32, fn func(*netlink.Handle) error) error {
	if inode == n.node.Inode {
		return fn(n.nodeLink)
	}
	h, err := n.handle(inode)
	if err != nil {
		return err
	}
	defer h.Close()
	return fn(h)
}
