// SPDX-License-Identifier: Apache-2.0

// main_test.go runs the program as a user does: as a process, with its
// streams, signals and exit status. Bad inputs go to the real binary; what
// needs packets runs this test binary with a session made up here.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// fakeEnv names the script that this binary plays instead of testing.
const fakeEnv = "PATHTRACE_TEST_SESSION"

// realSession is the script that makes nothing up.
const realSession = "real"

func TestMain(m *testing.M) {
	// Set but empty counts: running the tests instead would start this again.
	if script, ok := os.LookupEnv(fakeEnv); ok {
		if script == realSession {
			os.Exit(run(os.Args[1:], openTracer))
		}
		os.Exit(run(os.Args[1:], func(ctx context.Context, opt options, warn, verbose func(string)) (session, error) {
			return openFake(ctx, script, opt, warn, verbose)
		}))
	}
	os.Exit(m.Run())
}

// fake is a session that needs no kernel. Its script is a list of words.
type fake struct {
	script string
	opt    options
	warn   func(string)
}

func openFake(ctx context.Context, script string, opt options, warn, verbose func(string)) (session, error) {
	f := &fake{script, opt, warn}
	if f.has("slow-open") {
		fmt.Println("opening")
		<-ctx.Done()
		return nil, fmt.Errorf("attach: %w", ctx.Err())
	}
	if f.has("fail-open") {
		return nil, errors.New("load program trace_forward: permission denied:\n\tinvalid mem access\n\tprocessed 12 insns")
	}
	if verbose != nil {
		verbose("left out fib_validate_source: not on this kernel")
	}
	return f, nil
}

func (f *fake) has(word string) bool { return strings.Contains(f.script, word) }

func (f *fake) Start() *model.Start {
	return &model.Start{
		Time: time.Now(), Version: "test", Kernel: "6.18", Backend: "tracepoint", Hooks: 24, Proto: f.opt.proto, Port: f.opt.port,
		Src: model.End{Given: f.opt.src, Kind: "address"}, Dst: model.End{Given: f.opt.dst, Kind: "address"},
	}
}

func (f *fake) Run(ctx context.Context, sink model.Sink) (*model.Summary, error) {
	if err := sink.Start(f.Start()); err != nil {
		return nil, err
	}
	var sum model.Summary
	send := func(id uint64, outcome model.Outcome) error {
		p := &model.Packet{
			ID: id, Direction: model.Forward, Proto: "tcp", Time: time.Now(), Outcome: outcome, SrcPort: uint16(id), DstPort: uint16(id),
			Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Length: 60,
		}
		sum.Forward.Add(outcome)
		return sink.Packet(p)
	}
	if f.has("delivered") {
		if err := send(1, model.Delivered); err != nil {
			return nil, err
		}
	}
	if f.has("dropped") {
		if err := send(2, model.Dropped); err != nil {
			return nil, err
		}
	}
	if f.has("losing") {
		f.warn("12 events lost so far")
	}
	for id := uint64(3); f.has("flood") && ctx.Err() == nil; id++ {
		if err := send(id, model.Delivered); err != nil {
			return nil, err
		}
	}
	if f.has("fail-run") {
		return nil, errors.New("ring buffer: file already closed")
	}
	if !f.has("short") {
		<-ctx.Done()
	}
	if f.has("never-settles") {
		time.Sleep(time.Minute)
	}
	return &sum, sink.Summary(&sum)
}

func (f *fake) Progress() (packets, died int) { return 34, 5 }

func (f *fake) Lost() uint64 { return 0 }

func (f *fake) Close() error {
	if f.has("slow-close") {
		fmt.Println("closing")
		time.Sleep(time.Minute)
	}
	return nil
}

// result is how a process ended.
type result struct {
	stdout, stderr string
	code           int
}

// play prepares this binary to run as pathtrace with a made-up session.
func play(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), fakeEnv+"="+script, "NO_COLOR=", "TERM=xterm")
	return cmd
}

// flow is a pair of ends that needs no resolving.
var flow = []string{"-s", "10.0.0.1", "-d", "10.0.0.2"}

func with(args ...string) []string { return append(append([]string{}, flow...), args...) }

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func (r result) want(t *testing.T, code int, stderr ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit status %d, want %d; stderr:\n%s", r.code, code, r.stderr)
	}
	for _, want := range stderr {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("standard error lacks %q:\n%s", want, r.stderr)
		}
	}
}

// build gives the real binary.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pathtrace")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func TestBinary(t *testing.T) {
	binary := build(t)
	t.Run("bad inputs", func(t *testing.T) {
		for args, want := range badInputs() {
			if want == "" {
				continue
			}
			r := finish(t, exec.CommandContext(t.Context(), binary, strings.Fields(args)...))
			r.want(t, 1)
			if r.stdout != "" {
				t.Errorf("%s: wrote to standard output: %s", args, r.stdout)
			}
			if r.stderr != "pathtrace: "+want+"\n" {
				t.Errorf("%s:\n got %swant pathtrace: %s", args, r.stderr, want)
			}
		}
	})
	t.Run("help and version", func(t *testing.T) {
		r := finish(t, exec.CommandContext(t.Context(), binary, "-h"))
		r.want(t, 0)
		if r.stdout != helpText() || r.stderr != "" {
			t.Errorf("help: %q, %q", r.stdout, r.stderr)
		}
		r = finish(t, exec.CommandContext(t.Context(), binary, "--version"))
		r.want(t, 0)
		if !strings.HasPrefix(r.stdout, "pathtrace ") || strings.Count(r.stdout, "\n") != 1 {
			t.Errorf("version: %q", r.stdout)
		}
	})
	t.Run("without privileges", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), binary, flow...)
		cmd.Dir = "/"
		if os.Geteuid() == 0 {
			shared := filepath.Join(os.TempDir(), fmt.Sprintf("pathtrace-cli-test-%d", os.Getpid()))
			if err := copyFile(binary, shared); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(shared)
			cmd.Path = shared
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		r := finish(t, cmd)
		r.want(t, 1, "pathtrace: not allowed to trace: needs root, or CAP_SYS_ADMIN and CAP_NET_ADMIN")
		if strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("more than one line:\n%s", r.stderr)
		}
	})
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

func TestExitStatus(t *testing.T) {
	for script, want := range map[string]int{
		"short delivered":         0,
		"short delivered dropped": 2,
		"short":                   3,
		"fail-open":               1,
		"delivered fail-run":      1,
	} {
		r := finish(t, play(t, script, flow...))
		r.want(t, want)
		if strings.Contains(script, "fail") != strings.Contains(r.stderr, "pathtrace: ") {
			t.Errorf("%s: standard error: %s", script, r.stderr)
		}
	}
}

// An error of several lines from below becomes one.
func TestOneLineOfError(t *testing.T) {
	r := finish(t, play(t, "fail-open", flow...))
	r.want(t, 1)
	if want := "pathtrace: load program trace_forward: permission denied: invalid mem access processed 12 insns\n"; r.stderr != want {
		t.Errorf("got %q", r.stderr)
	}
}

func TestReady(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ready")
	for range 2 { // the second time the file of the first is there
		r := finish(t, play(t, "short delivered", with("--ready-file", file, "-p", "80", "--proto", "tcp")...))
		r.want(t, 0, "tracing 10.0.0.1 -> 10.0.0.2 tcp port 80 (24 hooks, tracepoint)\n")
		if content, err := os.ReadFile(file); err != nil || string(content) != readyText {
			t.Errorf("ready file: %q, %v", content, err)
		}
	}
	// A failed start leaves no ready file, not even an old one.
	r := finish(t, play(t, "fail-open", with("--ready-file", file)...))
	r.want(t, 1)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a ready file of a trace that never was: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestVerboseAndWarnings(t *testing.T) {
	r := finish(t, play(t, "short losing", flow...))
	r.want(t, 3, "pathtrace: 12 events lost so far\n")
	if strings.Contains(r.stderr, "left out") {
		t.Errorf("detail without -v: %s", r.stderr)
	}
	finish(t, play(t, "short", with("-v")...)).want(t, 3, "pathtrace: left out fib_validate_source: not on this kernel\n")
}

func TestDropsOnly(t *testing.T) {
	r := finish(t, play(t, "short delivered dropped", with("--drops-only", "-o", "json")...))
	r.want(t, 2)
	if got := outcomes(t, r.stdout); len(got) != 1 || got[0] != "dropped" {
		t.Errorf("packets: %v", got)
	}
}

// outcomes reads a JSON trace and gives its packets' outcomes.
func outcomes(t *testing.T, trace string) (list []string) {
	t.Helper()
	for line := range strings.Lines(trace) {
		var o struct{ Type, Outcome string }
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("not JSON: %q: %v", line, err)
		}
		if o.Type == "packet" {
			list = append(list, o.Outcome)
		}
	}
	return list
}

// TestCommand has parts that mostly wait: they do it side by side.
func TestCommand(t *testing.T) {
	t.Run("its output stays off standard output, its input is ours", func(t *testing.T) {
		t.Parallel()
		cmd := play(t, "delivered", with("-o", "json", "--", "sh", "-c", "cat; echo to stderr >&2")...)
		cmd.Stdin = strings.NewReader("to stdout\n")
		r := finish(t, cmd)
		r.want(t, 0, "to stdout\n", "to stderr\n")
		if got := outcomes(t, r.stdout); len(got) != 1 {
			t.Errorf("packets: %v", got)
		}
		if strings.Index(r.stderr, "tracing ") > strings.Index(r.stderr, "to stdout") {
			t.Errorf("the command ran before the trace was ready:\n%s", r.stderr)
		}
	})
	t.Run("its failure is told and changes nothing", func(t *testing.T) {
		t.Parallel()
		finish(t, play(t, "delivered", with("--", "sh", "-c", "exit 7")...)).want(t, 0, "pathtrace: sh ended with exit status 7\n")
		finish(t, play(t, "dropped", with("--", "sh", "-c", "kill -9 $$")...)).want(t, 2, "pathtrace: sh was ended by signal 9 (killed)\n")
	})
	t.Run("it is stopped when the trace ends first", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		r := finish(t, play(t, "delivered", with("--duration", "100ms", "--", "sleep", "60")...))
		r.want(t, 0, "pathtrace: sleep was still running when the trace ended: stopped it\n")
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("took %s", took)
		}
	})
	t.Run("one that ignores SIGTERM is killed", func(t *testing.T) {
		t.Parallel()
		r := finish(t, play(t, "delivered", with("--duration", "500ms", "--", "sh", "-c", `trap "" TERM; while :; do sleep 0.1; done`)...))
		r.want(t, 0, "pathtrace: sh was still running when the trace ended: stopped it\n")
	})
	t.Run("one that cannot be executed", func(t *testing.T) {
		t.Parallel()
		script := filepath.Join(t.TempDir(), "broken")
		if err := os.WriteFile(script, []byte("not a program"), 0o755); err != nil {
			t.Fatal(err)
		}
		finish(t, play(t, "delivered", with("--", script)...)).want(t, 1, `pathtrace: command "`+script+`" cannot be started: exec format error`+"\n")
	})
}

// begin starts the process and waits until it says it is ready.
func begin(t *testing.T, cmd *exec.Cmd) (stdout io.Reader, stderr *bufio.Reader) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr = bufio.NewReader(pipe)
	if line, err := stderr.ReadString('\n'); err != nil || !strings.HasPrefix(line, "tracing ") {
		t.Fatalf("not ready: %q, %v", line, err)
	}
	return stdout, stderr
}

// end waits for the process, but not for ever.
func end(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func send(t *testing.T, cmd *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String()+" prints the verdict", func(t *testing.T) {
			cmd := play(t, "dropped", flow...)
			stdout, _ := begin(t, cmd)
			send(t, cmd, s)
			text, err := io.ReadAll(stdout)
			if err != nil {
				t.Fatal(err)
			}
			if code := end(t, cmd); code != 2 || !strings.Contains(string(text), "forward  1 seen, 0 delivered, 1 dropped") {
				t.Errorf("exit status %d, output:\n%s", code, text)
			}
		})
	}
	t.Run("a second one quits at once and takes the command along", func(t *testing.T) {
		pidFile := filepath.Join(t.TempDir(), "pid")
		cmd := play(t, "dropped never-settles", with("--", "sh", "-c", `trap "" TERM INT; echo $$ >`+pidFile+`; while :; do sleep 0.1; done`)...)
		begin(t, cmd)
		pid := waitForPID(t, pidFile)
		send(t, cmd, syscall.SIGTERM)
		stop := keepSending(cmd, syscall.SIGTERM)
		code := end(t, cmd)
		stop()
		if code != exitInterrupted {
			t.Errorf("exit status %d", code)
		}
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if err := syscall.Kill(pid, 0); err != nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the command (pid %d) lives on", pid)
			}
		}
	})
	t.Run("timeout sends each signal twice", func(t *testing.T) {
		cmd := play(t, "dropped", flow...)
		timeout, err := exec.LookPath("timeout")
		if err != nil {
			t.Fatal(err)
		}
		// It passes on what it is sent just as it sends its own when time is up.
		cmd.Path, cmd.Args = timeout, append([]string{"timeout", "--preserve-status", "60", os.Args[0]}, flow...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		stdout, _ := begin(t, cmd)
		send(t, cmd, syscall.SIGTERM)
		text, err := io.ReadAll(stdout)
		if err != nil {
			t.Fatal(err)
		}
		if code := end(t, cmd); code != 2 || !strings.Contains(string(text), "forward  1 seen") {
			t.Errorf("exit status %d, output:\n%s", code, text)
		}
	})
	t.Run("before ready", func(t *testing.T) {
		cmd := play(t, "slow-open", flow...)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, stdout, "opening")
		send(t, cmd, syscall.SIGINT)
		if code := end(t, cmd); code != exitInterrupted || stderr.String() != "pathtrace: stopped before the trace was ready\n" {
			t.Errorf("exit status %d, %q", code, stderr.String())
		}
	})
	t.Run("during detaching the verdict stands", func(t *testing.T) {
		cmd := play(t, "short dropped slow-close", flow...)
		stdout, _ := begin(t, cmd)
		if told := awaitLine(t, stdout, "closing"); !strings.Contains(told, "\ntraced for") {
			t.Errorf("no verdict before detaching:\n%s", told)
		}
		send(t, cmd, syscall.SIGINT)
		if code := end(t, cmd); code != 2 {
			t.Errorf("exit status %d", code)
		}
	})
}

// keepSending sends a signal again and again until it is told to stop. To a
// process that is late to hear of the first, one more counts as the same.
func keepSending(cmd *exec.Cmd, s syscall.Signal) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * sameSignal):
				_ = cmd.Process.Signal(s) // it may have ended
			}
		}
	}()
	return func() { close(done) }
}

// awaitLine reads until a line comes and gives what came before it.
func awaitLine(t *testing.T, from io.Reader, want string) (before string) {
	t.Helper()
	for lines := bufio.NewReader(from); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("no line %q in:\n%s%s", want, before, line)
		}
		if line == want+"\n" {
			return before
		}
		before += line
	}
}

func waitForPID(t *testing.T, path string) int {
	t.Helper()
	for range 2000 {
		var pid int
		if content, err := os.ReadFile(path); err == nil {
			if _, err := fmt.Sscanf(string(content), "%d\n", &pid); err == nil {
				return pid
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not appear", path)
	return 0
}

// A reader that has seen enough ends the trace without a word.
func TestReaderGoesAway(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		cmd := play(t, "flood", with("-o", format)...)
		stdout, stderr := begin(t, cmd)
		if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := stdout.(io.Closer).Close(); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(stderr)
		if err != nil {
			t.Fatal(err)
		}
		if code := end(t, cmd); code != 0 || len(said) > 0 {
			t.Errorf("%s: exit status %d, %q", format, code, said)
		}
	}
}

func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := play(t, "flood", flow...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &stderr
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.HasSuffix(stderr.String(), "pathtrace: standard output: no space left on device\n") {
		t.Errorf("exit status %d, %q", code, stderr.String())
	}
}

// terminal opens a pseudo-terminal of 80 columns.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// onTerminal runs with both streams on a terminal and gives what it showed. With
// until, it is interrupted as soon as it has shown that.
func onTerminal(t *testing.T, until *regexp.Regexp, env string, args ...string) string {
	t.Helper()
	master, slave := terminal(t)
	cmd := play(t, "dropped", args...)
	if env != "" {
		cmd.Env = append(cmd.Env, env)
	}
	cmd.Stdout, cmd.Stderr = slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown := make(chan string, 1)
	go func() { shown <- readTerminal(master, until, func() { _ = cmd.Process.Signal(syscall.SIGINT) }) }()
	end(t, cmd)
	return <-shown
}

// readTerminal reads until the last writer is gone, and calls seen once when
// what it read matches.
func readTerminal(master io.Reader, until *regexp.Regexp, seen func()) string {
	var shown []byte
	for buf := make([]byte, 4096); ; {
		n, err := master.Read(buf)
		shown = append(shown, buf[:n]...)
		if until != nil && until.Match(shown) {
			until = nil
			seen()
		}
		if err != nil {
			return string(shown) // EIO at the end
		}
	}
}

// TestTerminal has parts that mostly wait: they do it side by side.
func TestTerminal(t *testing.T) {
	const clear, red = "\r\x1b[K", "\x1b[1;31m"
	status := regexp.MustCompile("\rtracing [1-9][0-9]* s · 34 packets · 5 died\x1b\\[K")
	t.Run("colour and status", func(t *testing.T) {
		t.Parallel()
		got := onTerminal(t, status, "", flow...)
		all := status.FindAllStringIndex(got, -1)
		if len(all) == 0 || !strings.Contains(got, red) {
			t.Fatalf("got %q", got)
		}
		if rest := got[all[len(all)-1][1]:]; !strings.HasPrefix(rest, clear) || !strings.Contains(rest, "VERDICT") {
			t.Errorf("the status line is not taken away: %q", got)
		}
	})
	for name, env := range map[string]string{"NO_COLOR": "NO_COLOR=1", "dumb": "TERM=dumb"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := onTerminal(t, nil, env, with("--duration", "100ms")...); strings.Contains(got, "\x1b[1") {
				t.Errorf("colour: %q", got)
			}
		})
	}
	t.Run("dumb has no status line", func(t *testing.T) {
		t.Parallel()
		if got := onTerminal(t, nil, "TERM=dumb", with("--duration", "1500ms")...); strings.Contains(got, "\x1b") {
			t.Errorf("escape: %q", got)
		}
	})
	t.Run("--no-color keeps the status line", func(t *testing.T) {
		t.Parallel()
		got := onTerminal(t, status, "", with("--no-color")...)
		if strings.Contains(got, red) || !status.MatchString(got) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a command owns the terminal", func(t *testing.T) {
		t.Parallel()
		if got := onTerminal(t, nil, "", with("--", "sleep", "1.5")...); strings.Contains(got, "34 packets") {
			t.Errorf("status line over the command's output: %q", got)
		}
	})
}

// Off a terminal there is neither colour nor status.
func TestPipe(t *testing.T) {
	r := finish(t, play(t, "dropped", with("--duration", "1200ms")...))
	r.want(t, 2)
	if strings.Contains(r.stdout+r.stderr, "\x1b") {
		t.Errorf("escape sequence: %q %q", r.stdout, r.stderr)
	}
}
