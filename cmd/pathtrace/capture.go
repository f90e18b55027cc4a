// SPDX-License-Identifier: Apache-2.0

// capture.go writes the annotated capture of --write beside the output. When it
// cannot be written any further (the disk is full, the reader of the pipe went
// away), the capture ends and the trace goes on: what the user watches is worth
// more than the file, and the exit status tells that something went wrong.

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"github.com/pathtrace/pathtrace/output/pcapng"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// defaultSnapLen is how many bytes of a packet a capture holds: headers, tunnel
// included, and the beginning of what they carry.
const defaultSnapLen = 256

// stdStream is the file name that means standard output or input.
const stdStream = "-"

// capture takes --write, --write-all and --snaplen.
func (r *raw) capture(opt *options) error {
	opt.write, opt.writeAll = r.write.value, r.writeAll
	if !r.write.given {
		for _, name := range []string{"write-all", "snaplen"} {
			if r.set.Changed(name) {
				return fmt.Errorf("--%s is for a capture: say with -w FILE where it goes", name)
			}
		}
		return nil
	}
	opt.snapLen = defaultSnapLen
	if r.snapLen.given {
		n, err := strconv.ParseUint(r.snapLen.value, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("bad --snaplen %q: give bytes of each packet, from 1 to 65535", r.snapLen.value)
		}
		opt.snapLen = int(n)
	}
	if opt.write == stdStream && opt.format.Name == "json" {
		return errors.New("-w - and -o json both want standard output: write the capture to a file, and pathtrace read -o json gives the rest")
	}
	return nil
}

// storyGoes is where the trace is printed: standard output, unless the capture
// goes there.
func storyGoes(opt options) *os.File {
	if opt.write == stdStream {
		return os.Stderr
	}
	return os.Stdout
}

// capture is a model.Sink that writes a file and never fails: its first error
// ends it. A nil one does nothing.
type capture struct {
	model.Sink
	name    string
	file    *os.File
	made    bool // by us
	regular bool
	begun   bool
	writer  *pcapng.Writer
	warn    func(string)
	err     error
}

// openCapture opens the file before anything is attached. What it holds is left
// alone until the trace is ready. It takes regular files and pipes: a device or
// a folder is a slip of the hand.
func openCapture(name string, warn func(string)) (*capture, error) {
	c := &capture{name: name, warn: warn}
	if name == stdStream {
		if isTerminal(os.Stdout) {
			return nil, errors.New("-w - writes to standard output, and that is a terminal: send it on, as in -w - | wireshark -k -i -")
		}
		c.name, c.file = "standard output", os.Stdout
		return c, nil
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, c.create(name)
	case err != nil:
		return nil, fmt.Errorf("--write %s: %w", name, rootCause(err))
	case info.Mode().IsRegular():
		c.regular = true
	case info.Mode()&fs.ModeNamedPipe == 0:
		return nil, fmt.Errorf("--write %s: this is neither a regular file nor a pipe: give another name, such as trace.pcapng", name)
	}
	if c.file, err = os.OpenFile(name, os.O_WRONLY, 0); err != nil {
		return nil, fmt.Errorf("--write %s: %w", name, rootCause(err))
	}
	return c, nil
}

// create makes a new file, for nobody else to read: it holds packets. Under sudo
// it is the caller's.
func (c *capture) create(name string) (err error) {
	if c.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return fmt.Errorf("--write %s: %w: give a name in a folder that is there and can be written to", name, rootCause(err))
	}
	c.made, c.regular = true, true
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, errGroup := strconv.Atoi(os.Getenv("SUDO_GID"))
	if err != nil || errGroup != nil || os.Geteuid() != 0 {
		return nil // not under sudo
	}
	if err := c.file.Chown(uid, gid); err != nil {
		c.warn(fmt.Sprintf("%s stays root's: %v", name, rootCause(err)))
	}
	return nil
}

// begin empties the file and makes it ready for a trace.
func (c *capture) begin(opt options, s session) error {
	if c == nil {
		return nil
	}
	how := pcapng.Options{All: opt.writeAll, SnapLen: opt.snapLen, Lost: s.Lost}
	if c.regular {
		if err := c.file.Truncate(0); err != nil {
			return fmt.Errorf("--write %s: %w", c.name, rootCause(err))
		}
		how.Late = c.file
	}
	c.writer = pcapng.New(c.file, how)
	c.begun = true
	return nil
}

// leave lets go of a file that no trace was written to; one made for it is
// taken away.
func (c *capture) leave() {
	if c == nil || c.begun {
		return
	}
	err := c.file.Close()
	if c.made {
		err = errors.Join(err, os.Remove(c.name))
	}
	if err != nil {
		c.warn(err.Error())
	}
}

// finish closes the file and tells whether all of the trace is in it.
func (c *capture) finish() (complete bool) {
	if c == nil {
		return true
	}
	if err := c.file.Close(); err != nil && c.err == nil {
		c.failed(err)
	}
	return c.err == nil
}

// failed ends the capture. Half a block is taken off the end of the file.
func (c *capture) failed(err error) {
	c.err = err
	says := rootCause(err).Error()
	if errors.Is(err, syscall.EPIPE) {
		says = "its reader went away"
	}
	c.warn(fmt.Sprintf("capture %s: %s: the capture ends here, the trace goes on", c.name, says))
	if c.regular {
		if err := c.file.Truncate(c.writer.Size()); err != nil {
			c.warn(fmt.Sprintf("capture %s: its last block is incomplete: %v", c.name, rootCause(err)))
		}
	}
}

// record hands an object on unless the capture has ended.
func record[T any](c *capture, to func(*T) error, object *T) error {
	if c.err == nil {
		if err := to(object); err != nil {
			c.failed(err)
		}
	}
	return nil
}

func (c *capture) Start(o *model.Start) error     { return record(c, c.writer.Start, o) }
func (c *capture) Packet(o *model.Packet) error   { return record(c, c.writer.Packet, o) }
func (c *capture) Node(o *model.NodeEvent) error  { return record(c, c.writer.Node, o) }
func (c *capture) Finding(o *model.Finding) error { return record(c, c.writer.Finding, o) }
func (c *capture) Summary(o *model.Summary) error { return record(c, c.writer.Summary, o) }
