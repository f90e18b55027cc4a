// SPDX-License-Identifier: Apache-2.0

// Tools: what is compared. pathtrace's builds and backends, and other programs
// of the kind where they are installed.

package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Tool is something that watches the node while traffic runs.
type Tool struct {
	Name string
	// start starts it and returns when it is ready.
	start func(ctx context.Context, n *Node) (running, error)
}

// running is a tool at work.
type running interface {
	// PID is the process's, 0 where it is none of its own.
	PID() int
	// Stop ends it and tells what it took.
	Stop() (Life, error)
}

// Pathtrace is a build of pathtrace with further arguments, under a name.
func Pathtrace(name, bin string, args ...string) Tool {
	return Tool{Name: name, start: func(ctx context.Context, n *Node) (running, error) {
		src, dst := n.Traced()
		return startPathtrace(ctx, n, bin, append(slices.Clone(args), "--src", src, "--dst", dst)...)
	}}
}

// Halted is a tool whose process is stopped as long as traffic runs: what its
// programs in the kernel take, without what the process takes besides. On an
// emulated CPU that is the most of it.
func Halted(name string, t Tool) Tool {
	return Tool{Name: name, start: func(ctx context.Context, n *Node) (running, error) {
		r, err := t.start(ctx, n)
		if err != nil {
			return nil, err
		}
		h := &halted{r}
		if err := h.signal(unix.SIGSTOP); err != nil {
			_, stopErr := r.Stop()
			return nil, errors.Join(err, stopErr)
		}
		return h, nil
	}}
}

type halted struct{ running }

// Stop lets the process go on, and ends it.
func (h *halted) Stop() (Life, error) {
	contErr := h.signal(unix.SIGCONT)
	life, err := h.running.Stop()
	return life, errors.Join(contErr, err)
}

func (h *halted) signal(s unix.Signal) error {
	if err := unix.Kill(h.PID(), s); err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(s), h.PID(), err)
	}
	return nil
}

// Traced gives the addresses of the traced flow's ends.
func (n *Node) Traced() (src, dst string) {
	return n.Env.Pod(tracedSrc).IPv4.String(), n.Env.Pod(tracedDst).IPv4.String()
}

// other is another program that shows packets, told to show the traced flow.
// ready is in the line it writes when it has attached.
type other struct {
	name, ready string
	args        func(filter string) []string
}

// others are those that are known.
var others = []other{
	{"tcpdump", "listening on", func(filter string) []string {
		return append([]string{"-i", "any", "-n", "-U", "-w", "/dev/null"}, strings.Fields(filter)...)
	}},
	{"pwru", "Listening for events", func(filter string) []string {
		return append([]string{"--filter-track-skb", "--output-tuple"}, filter)
	}},
	{"retis", "Collector(s) started", func(filter string) []string {
		return []string{"collect", "-c", "skb,skb-drop,ct,nft", "-f", filter}
	}},
}

// OtherNames lists the other programs that can be compared.
func OtherNames() []string {
	var names []string
	for _, o := range others {
		names = append(names, o.name)
	}
	return names
}

// Other is one of the other programs; ok tells whether it is installed.
func Other(name string) (t Tool, ok bool, err error) {
	i := slices.IndexFunc(others, func(o other) bool { return o.name == name })
	if i < 0 {
		return t, false, fmt.Errorf("tool %q is not known; take pathtrace's, or one of %s", name, strings.Join(OtherNames(), ", "))
	}
	o := others[i]
	bin, err := exec.LookPath(name)
	if err != nil {
		return t, false, nil // not installed is no fault: it takes no part
	}
	return Tool{Name: name, start: func(ctx context.Context, n *Node) (running, error) {
		src, dst := n.Traced()
		return startProcess(ctx, processSpec{
			name: o.name, bin: bin, args: o.args("host " + src + " and host " + dst),
			netns: n.Env.Node(1).Netns.Path, readyLine: o.ready,
		})
	}}, true, nil
}
