// SPDX-License-Identifier: Apache-2.0

// Bad input and bad surroundings, tried on the built program: each gives one
// line on standard error that says what, why and what to do next, exit status
// 1, and nothing on standard output. (The command line alone is tested in
// cmd/pathtrace.)

package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

// badInput is one thing done wrong.
type badInput struct {
	name string
	args []string
	// want are parts of the line: what is wrong, and a way out.
	want []string
	// change is what else is odd about the run.
	change func(t *testing.T, cmd *exec.Cmd)
}

func TestBadInput(t *testing.T) {
	p := readPlan(t)
	e := newEnv(t, cluster.Options{Dataplane: p.oneOfEachKind(cluster.CalicoLegacy)[0]})
	src, dst := ends(t, e, udp(0))
	for _, c := range badInputs(t, p, e, src, dst) {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), p.bin, c.args...)
			if c.change != nil {
				c.change(t, cmd)
			}
			tr := launch(t, cmd)
			status := tr.wait(t, pick(p, 30*time.Second, 60*time.Second))
			complaint := tr.errors(t)
			t.Logf("%s", complaint)
			if status != exitError {
				t.Errorf("exit status %d, want %d", status, exitError)
			}
			if out := readFile(t, tr.stdout); out != "" {
				t.Errorf("on standard output: %q", out)
			}
			if strings.Count(complaint, "\n") != 1 || !strings.HasPrefix(complaint, "pathtrace: ") || !strings.HasSuffix(complaint, "\n") {
				t.Errorf("not one line of ours: %q", complaint)
			}
			for _, want := range c.want {
				if !strings.Contains(complaint, want) {
					t.Errorf("lacks %q: %q", want, complaint)
				}
			}
		})
	}
}

func badInputs(t *testing.T, p plan, e *cluster.Env, src, dst string) []badInput {
	base := []string{"--backend", p.backend, "--duration", "1s"}
	netns := append([]string{"--netns", e.Node(1).Netns.Path}, base...)
	flow := append([]string{"--src", src, "--dst", dst}, base...)
	good := append([]string{"--netns", e.Node(1).Netns.Path}, flow...)
	with := func(more []string, args ...string) []string { return append(append([]string{}, more...), args...) }
	noNetns, dir := filepath.Join(t.TempDir(), "plain"), t.TempDir()
	if err := os.WriteFile(noNetns, []byte("no namespace\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []badInput{
		{name: "no root", args: good, want: []string{"not allowed to trace", "CAP_SYS_ADMIN", "run it with sudo"}, change: asNobody},
		{name: "no BTF", args: good, want: []string{"BTF", "CONFIG_DEBUG_INFO_BTF"}, change: withoutBTF},
		{name: "unknown interface", args: with(netns, "--src", "cali0123456789a", "--dst", dst), want: []string{`source: endpoint "cali0123456789a"`, "interface"}},
		{name: "unknown interface, named as such", args: with(netns, "--src", src, "--dst", "if:nothere"), want: []string{`destination: endpoint "if:nothere"`, "interface"}},
		{name: "unknown word", args: with(netns, "--src", "frontend", "--dst", dst), want: []string{`source: endpoint "frontend"`, "what works"}},
		{name: "no address", args: with(netns, "--src", "10.0.0.256", "--dst", dst), want: []string{`endpoint "10.0.0.256"`, "write 10.0.0.1"}},
		{name: "src equals dst", args: with(netns, "--src", src, "--dst", src), want: []string{src, "name two different ends"}},
		{name: "src equals dst in other words", args: with(netns, "--src", src, "--dst", "if:"+e.Pod(udp(0).Src).HostInterface), want: []string{src, "the same", "name the other end"}},
		{name: "ends of two families", args: with(netns, "--src", src, "--dst", "fd00::1"), want: []string{"IPv4", "IPv6", "one family"}},
		{name: "netns path not there", args: with(flow, "--netns", "/run/netns/not-there"), want: []string{"/run/netns/not-there", "no such file", "give the path of a network namespace"}},
		{name: "netns path is a plain file", args: with(flow, "--netns", noNetns), want: []string{noNetns, "network namespace"}},
		{name: "netns path is a folder", args: with(flow, "--netns", dir), want: []string{dir, "network namespace"}},
		{name: "netns path is another kind of namespace", args: with(flow, "--netns", "/proc/self/ns/mnt"), want: []string{"/proc/self/ns/mnt", "network namespace"}},
		{name: "command not found", args: with(good, "--", "no-such-command-here", "-x"), want: []string{`"no-such-command-here"`, "not found", "check its name"}},
		{name: "command not executable", args: with(good, "--", noNetns), want: []string{noNetns, "chmod +x"}},
		{name: "unknown flag", args: with(good, "--prot", "udp"), want: []string{"unknown flag --prot", "did you mean --proto?"}},
		{name: "unknown backend", args: []string{"--src", src, "--dst", dst, "--backend", "magic"}, want: []string{"magic", "tracepoint"}},
		{name: "ready file in no folder", args: with(good, "--ready-file", filepath.Join(dir, "no", "ready")), want: []string{"--ready-file", "create the folder"}},
	}
}

// asNobody runs the program without root, from a place where anybody may run it.
func asNobody(t *testing.T, cmd *exec.Cmd) {
	program, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = filepath.Join(os.TempDir(), fmt.Sprintf("pathtrace-nobody-%d", os.Getpid()))
	t.Cleanup(func() {
		if err := os.Remove(cmd.Path); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(cmd.Path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// withoutBTF runs the program where the kernel's type information is hidden, in
// a mount namespace of its own: Unshareflags makes all its mounts private.
func withoutBTF(t *testing.T, cmd *exec.Cmd) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	const hide = `mount -t tmpfs -o ro none /sys/kernel/btf && exec "$0" "$@"`
	cmd.Args = append([]string{"sh", "-c", hide, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = sh
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	t.Cleanup(func() {
		if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
			t.Errorf("the hidden BTF is hidden outside too: %v", err)
		}
	})
}
