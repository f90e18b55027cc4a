// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces, enters them, sets up what is in them
// and removes them: links, addresses, routes, neighbours, sysctls. A namespace
// has a name under /run/netns, as `ip netns` makes it, so that people and other
// programs can enter it too.
package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Dir is where named network namespaces live (ip-netns(8)).
const Dir = "/run/netns"

// Namespace is a named network namespace that this process made.
type Namespace struct {
	Name  string // its file's name under /run/netns
	Path  string // /run/netns/NAME
	Inode uint64 // the namespace's inode number, its identity in the kernel

	file *os.File
	link *netlink.Handle // rtnetlink inside the namespace
}

// New makes an empty namespace with loopback up.
func New(name string) (*Namespace, error) {
	n := &Namespace{Name: name, Path: filepath.Join(Dir, name)}
	if err := n.create(); err != nil {
		return nil, errors.Join(fmt.Errorf("make network namespace %s: %w", name, err), n.Remove())
	}
	return n, nil
}

func (n *Namespace) create() error {
	target, err := os.OpenFile(n.Path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := target.Close(); err != nil {
		return err
	}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return unix.Mount("/proc/thread-self/ns/net", n.Path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return err
	}
	if n.file, err = os.Open(n.Path); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &st); err != nil {
		return err
	}
	n.Inode = st.Ino
	return n.openLink()
}

// openLink opens rtnetlink in the namespace and brings loopback up.
func (n *Namespace) openLink() error {
	err := n.Do(func() (err error) {
		n.link, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	lo, err := n.link.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	return n.link.LinkSetUp(lo)
}

// Remove closes the handles and takes the name away. The namespace itself dies
// with its last user. Removing what was never made is no error.
func (n *Namespace) Remove() error {
	if n.link != nil {
		n.link.Close()
		n.link = nil
	}
	if n.file != nil {
		n.file.Close()
		n.file = nil
	}
	return RemoveName(n.Path)
}

// RemoveName unmounts and removes one file under /run/netns.
func RemoveName(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && err != unix.EINVAL && err != unix.ENOENT { // EINVAL: nothing is mounted there
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// ShareDir makes /run/netns a shared mount, as the first `ip netns add` on
// a machine does, so that a later one does not bury our names under a mount.
func ShareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err == unix.EINVAL { // not a mount point yet
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s to itself: %w", Dir, err)
		}
		err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", Dir, err)
	}
	return nil
}

// onThread runs fn on an OS thread of its own that is put back into its network
// namespace afterwards; a thread that cannot be put back is thrown away. The
// process's main thread is never taken: /proc/self shows its namespace.
func onThread(fn func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			errs <- onThread(fn) // this goroutine holds the main thread, so the next gets another
			runtime.UnlockOSThread()
			return
		}
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			errs <- err
			return
		}
		defer home.Close()
		err = fn()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			errs <- errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
			return // still locked: the runtime ends the thread
		}
		runtime.UnlockOSThread()
		errs <- err
	}()
	return <-errs
}

// Link is rtnetlink inside the namespace.
func (n *Namespace) Link() *netlink.Handle { return n.link }

// FD is a descriptor of the namespace, by which a link's other end is put there.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Do runs fn on a thread inside the namespace. Sockets that fn makes and
// processes that it starts belong to the namespace for good; goroutines that it
// starts do not.
func (n *Namespace) Do(fn func() error) error {
	if n.file == nil {
		return fmt.Errorf("network namespace %s is closed", n.Name)
	}
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", n.Name, err)
		}
		return fn()
	})
}

// Start starts cmd inside the namespace. The process dies with this one.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return n.Do(cmd.Start)
}

// Run runs a command inside the namespace with the given standard input and
// returns its standard output. The error carries the command and what it wrote
// to standard error.
func (n *Namespace) Run(ctx context.Context, stdin string, name string, args ...string) (string, error) {
	return n.RunEnv(ctx, nil, stdin, name, args...)
}

// RunEnv is Run with variables added to the environment.
func (n *Namespace) RunEnv(ctx context.Context, env []string, stdin string, name string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.Env = append(os.Environ(), env...)
	err := n.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s in %s: %w: %s", strings.Join(cmd.Args, " "), n.Name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Setting is one sysctl: a path below /proc/sys/net and its value.
type Setting struct{ Path, Value string }

// Sysctl writes settings inside the namespace, in order.
func (n *Namespace) Sysctl(settings ...Setting) error {
	return n.Do(func() error {
		for _, s := range settings {
			path := filepath.Join("/proc/sys/net", s.Path)
			if err := os.WriteFile(path, []byte(s.Value), 0o644); err != nil {
				return fmt.Errorf("set sysctl net/%s to %s in %s: %w", s.Path, s.Value, n.Name, err)
			}
		}
		return nil
	})
}

// ReadSysctl reads one setting inside the namespace.
func (n *Namespace) ReadSysctl(path string) (value string, err error) {
	err = n.Do(func() error {
		text, err := os.ReadFile(filepath.Join("/proc/sys/net", path))
		value = strings.TrimSpace(string(text))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read sysctl net/%s in %s: %w", path, n.Name, err)
	}
	return value, nil
}
