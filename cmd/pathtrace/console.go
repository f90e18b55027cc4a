// SPDX-License-Identifier: Apache-2.0

// console.go keeps the two streams apart on a terminal they share: the trace
// on standard output (on standard error where -w - wants that); ready line, warnings and a live status line on standard
// error. The status line is taken away before anything else is printed.

package main

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/output"
)

// console writes to both streams. It is safe for concurrent use.
type console struct {
	mu        sync.Mutex
	out       *os.File // where the trace goes
	live      bool     // a status line may be shown
	shared    bool     // both streams are the terminal
	shown     bool     // a status line stands there
	finalized bool
}

// newConsole gives a console that prints the trace to out.
func newConsole(out *os.File, wantStatus bool) *console {
	live := wantStatus && isTerminal(os.Stderr) && os.Getenv("TERM") != "dumb"
	return &console{out: out, live: live, shared: live && isTerminal(out)}
}

// name says which stream the trace goes to.
func (c *console) name() string {
	if c.out == os.Stderr {
		return "standard error"
	}
	return "standard output"
}

// Write writes what the trace tells.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shared {
		c.clear()
	}
	return c.out.Write(p)
}

// say prints one line to standard error. Nobody can be told when that fails.
func (c *console) say(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	_, _ = os.Stderr.WriteString(oneLine(line) + "\n")
}

// warn is say for what the user should know although nothing failed.
func (c *console) warn(line string) { c.say("pathtrace: " + line) }

// status replaces the status line.
func (c *console) status(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live || c.finalized {
		return
	}
	c.shown = true
	_, _ = os.Stderr.WriteString("\r" + line + "\x1b[K")
}

// endStatus takes the status line away for good.
func (c *console) endStatus() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	c.finalized = true
}

func (c *console) clear() {
	if c.shown {
		_, _ = os.Stderr.WriteString("\r\x1b[K")
		c.shown = false
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// settings says what the reader of out can show. Colour is for
// terminals only; NO_COLOR (any value but an empty one) and TERM=dumb turn it
// off.
func settings(out *os.File, noColor bool) output.Settings {
	if !isTerminal(out) {
		return output.Settings{}
	}
	var s output.Settings
	s.Color = !noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil {
		s.Width = int(size.Col)
	}
	return s
}
