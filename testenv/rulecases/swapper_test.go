// SPDX-License-Identifier: Apache-2.0

// Whoever replaces rules under a trace: another process, that was started
// beforehand and does so at once when it is told.

package rulecases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// swapper is a process that replaces the rules: iptables-restore does at every
// COMMIT it reads, `nft -i` at every line. Starting one for each replacement
// would take longer than there is time, where the CPU is emulated.
type swapper struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	text   func(n int) string // what the n-th replacement puts there
	quit   chan struct{}
	ended  chan error
	n      int // replacements so far, by run
	begun  time.Time
}

// startSwapper starts it and puts the first rules there.
func startSwapper(ctx context.Context, node *netns.Namespace, command []string, text func(n int) string) (*swapper, error) {
	w := &swapper{text: text}
	w.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	w.cmd.Stderr = &w.stderr
	var err error
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := node.Start(w.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", w.cmd, err)
	}
	return w, w.put(0)
}

// put has it replace the rules now.
func (w *swapper) put(n int) error {
	_, err := io.WriteString(w.stdin, w.text(n))
	return err
}

// run replaces them until halt.
func (w *swapper) run(every time.Duration) {
	w.n, w.begun, w.quit, w.ended = 0, time.Now(), make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				w.ended <- nil
				return
			case <-tick.C:
			}
			w.n++
			if err := w.put(w.n); err != nil {
				w.ended <- err
				return
			}
		}
	}()
}

// halt ends run, and tells how many replacements there were and how many a second.
func (w *swapper) halt() (n int, rate float64, err error) {
	close(w.quit)
	err = <-w.ended
	return w.n, float64(w.n) / time.Since(w.begun).Seconds(), err
}

// stop ends the process, which must have had nothing to complain of.
func (w *swapper) stop() error {
	err := errors.Join(w.stdin.Close(), w.cmd.Wait())
	if text := strings.TrimSpace(w.stderr.String()); err != nil || text != "" {
		return fmt.Errorf("replace the rules with %s: %w: %s", w.cmd, err, text)
	}
	return nil
}
