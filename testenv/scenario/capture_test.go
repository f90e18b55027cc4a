// SPDX-License-Identifier: Apache-2.0

package scenario

// This file reads the capture that a trace wrote beside its output: pathtrace
// reads out of it what was printed, and tshark opens it without complaint.

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
)

// sampled is how many captures of a session there are for each that tshark
// opens: it takes a second to start.
const sampled = 8

// checkCapture compares the capture with what the trace printed.
func (ses *session) checkCapture(t interface {
	Helper()
	Errorf(format string, args ...any)
}, tr *Trace) {
	t.Helper()
	var exit *exec.ExitError
	// its status is the trace's own: 2 where a packet died
	out, err := exec.CommandContext(ses.ctx, ses.p.bin, "read", "-o", "json", ses.capture).Output()
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() == exitError) {
		t.Errorf("pathtrace read: %v: %s", err, out)
	}
	if live := tr.Lines(); string(out) != live {
		t.Errorf("read from the capture:\n%s\nprinted by the trace:\n%s", out, live)
	}
	ses.captures++
	if ses.captures%sampled == 1 {
		ses.openWithTshark(t, tr)
	}
}

// openWithTshark wants a packet for every hop, each with its packet's id, an
// interface and a comment.
func (ses *session) openWithTshark(t interface {
	Helper()
	Errorf(format string, args ...any)
}, tr *Trace) {
	t.Helper()
	cmd := exec.CommandContext(ses.ctx, "tshark", "-r", ses.capture, "-T", "fields",
		"-e", "frame.packet_id", "-e", "frame.interface_name", "-e", "frame.interface_description", "-e", "frame.comment")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, "Running as user") {
			t.Errorf("tshark complains: %s", line)
		}
	}
	if err != nil {
		t.Errorf("tshark: %v", err)
	}
	hops, shown := 0, 0
	for _, p := range tr.Packets() {
		hops += len(p.Hops)
	}
	for line := range strings.Lines(stdout.String()) {
		shown++
		for _, field := range strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4) {
			if field == "" {
				t.Errorf("a packet lacks something: %s", line)
			}
		}
	}
	if shown != hops {
		t.Errorf("tshark shows %d packets of %d hops", shown, hops)
	}
}
