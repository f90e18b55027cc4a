// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ringWait waits for a ring buffer to have events by Go's own poller, as for a
// socket. The ring buffer's reader would block in a system call, and Go's
// scheduler looks at a thread that does so some sixty times in ten milliseconds:
// on a slow machine that is most of what an idle trace takes.
type ringWait struct {
	file  *os.File // the map, once more, so that it can be closed by itself
	conn  syscall.RawConn
	woken atomic.Bool
}

func newRingWait(events *ebpf.Map) (*ringWait, error) {
	fd, err := unix.FcntlInt(uintptr(events.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("wait for the ring buffer: duplicate its file: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else Go does not poll it
		return nil, errors.Join(fmt.Errorf("wait for the ring buffer: %w", err), unix.Close(fd))
	}
	w := &ringWait{file: os.NewFile(uintptr(fd), "ring buffer")}
	if w.conn, err = w.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for the ring buffer: %w", err), w.file.Close())
	}
	return w, nil
}

// wait returns when there is something, when it was woken, or after d.
func (w *ringWait) wait(something func() bool, d time.Duration) error {
	if err := w.file.SetReadDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("wait for the ring buffer: %w", err)
	}
	err := w.conn.Read(func(uintptr) bool { return w.woken.Swap(false) || something() })
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wait for the ring buffer: %w", err)
	}
	return nil
}

// wake ends a wait, or the next one if there is none now; never none, so at times
// both.
func (w *ringWait) wake() {
	w.woken.Store(true)
	// it fails on a closed file only, which nobody waits for
	_ = w.file.SetReadDeadline(time.Now())
}

func (w *ringWait) Close() error { return w.file.Close() }
