// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file finds the node's files when they are mounted at a prefix, as in a
// container with the host's /proc, /run and /var below /host.

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hostRoot is the prefix; "" for none.
type hostRoot string

// path is where a path of the node is found from here. /var/run is a link to
// /run on every node in use (FHS 3.0), and absolute: below a prefix it would
// lead to this container's own.
func (h hostRoot) path(p string) string {
	if h == "" {
		return p
	}
	if rest, ok := strings.CutPrefix(p, "/var/run/"); ok {
		p = "/run/" + rest
	}
	return filepath.Join(string(h), p)
}

// maxHostFile bounds what is read of a file: key files and kubeconfigs.
const maxHostFile = 1 << 20

// readFile reads a file of the node. Links in it are followed within the
// prefix (openat2(2), RESOLVE_IN_ROOT, since Linux 5.6): the kubelet's
// certificate is one, and absolute.
func (h hostRoot) readFile(p string) ([]byte, error) {
	file, err := h.open(p)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxHostFile+1))
	if err == nil && len(text) > maxHostFile {
		err = &os.PathError{Op: "read", Path: h.path(p), Err: errors.New("file too large")}
	}
	return text, err
}

func (h hostRoot) open(p string) (*os.File, error) {
	if h == "" {
		return os.Open(p)
	}
	root, err := unix.Open(string(h), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: string(h), Err: err}
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, p, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: h.path(p), Err: err}
	}
	return os.NewFile(uintptr(fd), h.path(p)), nil
}

// netns tells the inode number of a namespace file of the node; false when
// there is none at that path.
func (h hostRoot) netns(p string) (uint32, bool) {
	if p == "" {
		return 0, false
	}
	at := h.path(p)
	var sfs unix.Statfs_t
	if err := unix.Statfs(at, &sfs); err != nil || sfs.Type != unix.NSFS_MAGIC {
		return 0, false
	}
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil {
		return 0, false
	}
	return uint32(st.Ino), true
}
