// SPDX-License-Identifier: Apache-2.0

// A server comes and goes although its socket has copies: each process that this
// one starts holds one until it executes its program.

package testenv

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/story"
)

// keepSockets copies the sockets that serve a port, as a process that is being
// started does, and closes the copies when it executes its program, which it is
// slow to do.
func keepSockets(t *testing.T, ns *netns.Namespace, proto string, port int) {
	t.Helper()
	inodes, err := ns.Serving(proto, port)
	if err != nil {
		t.Fatal(err)
	}
	var copies []int
	for _, inode := range inodes {
		copies = append(copies, copySocket(t, inode))
	}
	if len(copies) == 0 {
		t.Fatalf("nobody serves %s port %d in %s", proto, port, ns.Name)
	}
	executed := make(chan error, 1)
	time.AfterFunc(200*time.Millisecond, func() {
		var errs []error
		for _, fd := range copies {
			errs = append(errs, unix.Close(fd))
		}
		executed <- errors.Join(errs...)
	})
	t.Cleanup(func() {
		if err := <-executed; err != nil {
			t.Error(err)
		}
	})
}

// copySocket duplicates this process's descriptor of a socket.
func copySocket(t *testing.T, inode string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == "socket:["+inode+"]" {
			fd, err := strconv.Atoi(filepath.Base(link))
			if err != nil {
				t.Fatal(err)
			}
			copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			return copied
		}
	}
	t.Fatalf("socket %s is not this process's", inode)
	return -1
}

// TestSlowStart: a fault that takes a port away, or over, works and is undone
// although a process that is being started still has the socket.
func TestSlowStart(t *testing.T) {
	on := newStand(t, cluster.Options{Dataplane: cluster.FlannelNFTables})
	for _, name := range []string{"accept-queue-tcp", "socket-buffer-udp", "no-listener-tcp", "no-listener-udp"} {
		s, err := story.Find(string(cluster.FlannelNFTables) + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		on.run(t, *s, func(t *testing.T, e *cluster.Env) {
			ns, keep := e.Pod(s.Traffic.Dst).Netns, func() {}
			// the server's socket, and what the fault has put in its place
			keepSockets(t, ns, s.Traffic.Proto, cluster.DefaultPort)
			if s.Fault != "no-listener" {
				keep = func() { keepSockets(t, ns, s.Traffic.Proto, cluster.DefaultPort) }
			}
			runScenario(t, e, *s, func() {}, keep)
		})
	}
}
