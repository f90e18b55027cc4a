// SPDX-License-Identifier: Apache-2.0

// Processes with a name of one's choice, for faults that somebody has to be
// named for. They are Perl scripts: Perl is on every Debian, and speaks netlink
// and ioctl without help.

package fault

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
)

// Scripts. Each says "ready" when it has begun.
var (
	//go:embed testdata/scripts/flap-netlink.pl
	flapByNetlink string
	//go:embed testdata/scripts/flap-ioctl.pl
	flapByIoctl string
	//go:embed testdata/scripts/upgrade.pl
	upgrade string
	//go:embed testdata/scripts/wait.pl
	waitForEver string
)

// process is a script that runs.
type process struct {
	cmd   *exec.Cmd
	err   strings.Builder
	turns atomic.Int64 // lines it wrote after the first: one for each thing it did
}

// startScript runs a script in a namespace by a process with a name, and waits
// until it has begun. The name is that of a link to perl, by which the kernel
// names the process.
func startScript(e *cluster.Env, ns *netns.Namespace, name, script string, args ...string) (*process, error) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		return nil, fmt.Errorf("process %s: it is a script: %w", name, err)
	}
	dir, err := os.MkdirTemp(e.StateDir, "script-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	if err := os.Symlink(perl, path); err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(path, append([]string{"-e", script}, args...)...)}
	p.cmd.Stderr = &p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := ns.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", name, ns.Name, err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return nil, errors.Join(fmt.Errorf("process %s in %s ended at once: %s", name, ns.Name, p.err.String()), p.stop())
	}
	go func() {
		for lines.Scan() {
			p.turns.Add(1)
		}
	}()
	return p, nil
}

// pid is the process's.
func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, if it has not ended by itself.
func (p *process) stop() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = p.cmd.Wait() // that it was killed is no error
	return nil
}

// wait waits for it to end by itself.
func (p *process) wait(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w: %s", filepath.Base(p.cmd.Path), err, strings.TrimSpace(p.err.String()))
		}
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.cmd.Process.Kill())
	}
}
