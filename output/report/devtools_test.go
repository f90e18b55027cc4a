// SPDX-License-Identifier: Apache-2.0

package report

// This file drives a real browser, headless, by the Chrome DevTools Protocol
// over a pair of pipes (--remote-debugging-pipe): messages are JSON objects that
// end with a zero byte. Two hundred lines for what the tests need, instead of a
// module that brings a WebSocket and the whole protocol.

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browserNames are the programs that will do, the lightest first.
var browserNames = []string{"chromium-headless-shell", "chromium", "google-chrome-stable", "google-chrome"}

// patience is how long the browser may take for anything.
const patience = 30 * time.Second

// browser is a running browser with one tab.
type browser struct {
	t       *testing.T
	to      io.Writer
	replies chan message
	session string
	next    int
	events  []message
}

// message is a command's reply or an event.
type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// findBrowser gives a browser's path. Debian has one as a package, which CI
// installs (.ci/deps.sh); Ubuntu's is a snap, which may not read the test's files.
func findBrowser(t *testing.T) string {
	t.Helper()
	for _, name := range browserNames {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	system, err := os.ReadFile("/etc/os-release")
	if err == nil && os.Getenv("CI") != "" && bytes.Contains(system, []byte("\nID=debian\n")) {
		t.Fatal("no Chromium, and CI on Debian has it: see .ci/deps.sh")
	}
	t.Skip("no Chromium here: apt-get install chromium-headless-shell (Debian)")
	return ""
}

// startBrowser gives a browser that ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := findBrowser(t)
	args := []string{
		"--headless", "--remote-debugging-pipe", "--user-data-dir=" + t.TempDir(), "--no-first-run", "--disable-gpu", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-default-browser-check",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // its sandbox refuses root; the pages are our own
	}
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.ExtraFiles = []*os.File{inRead, outWrite} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inRead.Close()
	outWrite.Close()
	b := &browser{t: t, to: inWrite, replies: make(chan message, 1024)}
	go b.receive(outRead)
	t.Cleanup(func() {
		inWrite.Close() // which ends it
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("the browser said: %s", said.String())
		}
	})
	b.openTab()
	return b
}

func (b *browser) receive(from io.Reader) {
	defer close(b.replies)
	in := bufio.NewReaderSize(from, 1<<20)
	for {
		raw, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(raw, []byte{0}), &m) == nil {
			b.replies <- m
		}
	}
}

func (b *browser) openTab() {
	b.t.Helper()
	var target struct{ TargetID, SessionID string }
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.do(domain+".enable", nil, nil)
	}
}

// do sends a command and reads its result.
func (b *browser) do(method string, params map[string]any, result any) {
	b.t.Helper()
	b.next++
	command := map[string]any{"id": b.next, "method": method}
	if params != nil {
		command["params"] = params
	}
	if b.session != "" {
		command["sessionId"] = b.session
	}
	raw, err := json.Marshal(command)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(raw, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	m := b.await(method, func(m *message) bool { return m.ID == b.next })
	if m.Error != nil {
		b.t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if result != nil {
		if err := json.Unmarshal(m.Result, result); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	}
}

// await takes messages until one fits, and keeps the events among them.
func (b *browser) await(what string, fits func(*message) bool) message {
	b.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m, open := <-b.replies:
			if !open {
				b.t.Fatalf("%s: the browser is gone", what)
			}
			if m.Method != "" {
				b.events = append(b.events, m)
			}
			if fits(&m) {
				return m
			}
		case <-deadline:
			b.t.Fatalf("%s: no answer from the browser within %v", what, patience)
		}
	}
}

// look says how the page is looked at.
type look struct {
	width, height int
	dark          bool
}

func (l look) String() string {
	return fmt.Sprintf("%d-%s", l.width, map[bool]string{false: "light", true: "dark"}[l.dark])
}

// open shows a file.
func (b *browser) open(path string, l look) {
	b.t.Helper()
	scheme := map[bool]string{false: "light", true: "dark"}[l.dark]
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": l.width, "height": l.height, "deviceScaleFactor": 1, "mobile": l.width < 600}, nil)
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.do("Page.navigate", map[string]any{"url": "about:blank"}, nil)
	b.await("about:blank", func(m *message) bool { return m.Method == "Page.loadEventFired" })
	b.events = nil
	b.do("Page.navigate", map[string]any{"url": "file://" + path}, nil)
	b.await(path, func(m *message) bool { return m.Method == "Page.loadEventFired" })
}

// eval gives what a JavaScript expression is.
func (b *browser) eval(expression string, result any) {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	b.do("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if answer.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, answer.ExceptionDetails.Exception.Description)
	}
	if err := json.Unmarshal(answer.Result.Value, result); err != nil {
		b.t.Fatalf("%s: %v: %s", expression, err, answer.Result.Value)
	}
}

func (b *browser) click(x, y float64) {
	b.t.Helper()
	for _, what := range []string{"mousePressed", "mouseReleased"} {
		b.do("Input.dispatchMouseEvent", map[string]any{"type": what, "x": x, "y": y, "button": "left", "clickCount": 1}, nil)
	}
}

// press types one key: its name in the protocol, its code, and what it writes.
func (b *browser) press(name string, code int, text string) {
	b.t.Helper()
	for _, what := range []string{"keyDown", "keyUp"} {
		params := map[string]any{"type": what, "key": text, "code": name, "windowsVirtualKeyCode": code}
		if what == "keyDown" {
			params["text"] = text
		}
		b.do("Input.dispatchKeyEvent", params, nil)
	}
}

// complaints are the errors that the page's console shows.
func (b *browser) complaints() (list []string) {
	b.settle()
	for _, m := range b.events {
		var p struct {
			Entry            struct{ Level, Text string }
			Type             string
			ExceptionDetails struct{ Text string }
		}
		if err := json.Unmarshal(m.Params, &p); err != nil {
			continue
		}
		switch {
		case m.Method == "Runtime.exceptionThrown":
			list = append(list, p.ExceptionDetails.Text)
		case m.Method == "Runtime.consoleAPICalled" && (p.Type == "error" || p.Type == "warning"):
			list = append(list, "console."+p.Type)
		case m.Method == "Log.entryAdded" && (p.Entry.Level == "error" || p.Entry.Level == "warning"):
			list = append(list, p.Entry.Text)
		}
	}
	return list
}

// requests are the addresses that the page wanted something from.
func (b *browser) requests() (list []string) {
	b.settle()
	for _, m := range b.events {
		var p struct{ Request struct{ URL string } }
		if m.Method == "Network.requestWillBeSent" && json.Unmarshal(m.Params, &p) == nil {
			list = append(list, p.Request.URL)
		}
	}
	return list
}

// settle waits until what the page began has shown: two frames and a moment.
func (b *browser) settle() {
	var done bool
	b.eval(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(true), 20))))`, &done)
}

// picture writes what is seen of the page as a PNG file.
func (b *browser) picture(path string, clip map[string]any) {
	b.t.Helper()
	b.settle()
	var shot struct{ Data string }
	b.do("Page.captureScreenshot", map[string]any{"format": "png", "clip": clip, "captureBeyondViewport": true}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// saved writes a page to a file for the browser.
func saved(t *testing.T, name string, page []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), strings.ReplaceAll(name, "/", "-")+".html")
	if err := os.WriteFile(path, page, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
