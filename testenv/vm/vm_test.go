// SPDX-License-Identifier: Apache-2.0

// These tests check the parts of a run that need no VM: options, the scripts
// that go in, the command lines, and when a VM is started again.

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOptionsComplete(t *testing.T) {
	good := Options{Kernel: "6.1", Command: []string{"true"}}
	tests := []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"unknown kernel", func(o *Options) { o.Kernel = "6.2" }, `kernel "6.2" is not known`},
		{"no command", func(o *Options) { o.Command = nil }, "no command given"},
		{"environment without =", func(o *Options) { o.Env = []string{"A"} }, `environment "A": want NAME=VALUE`},
		{"environment that is shell text", func(o *Options) { o.Env = []string{"A;b=1"} }, "want NAME=VALUE"},
		{"CPUs", func(o *Options) { o.CPUs = -1 }, "want at least 1"},
		{"memory", func(o *Options) { o.Memory = "lots" }, `memory "lots"`},
		{"timeout", func(o *Options) { o.Timeout = -time.Second }, "want more than 0"},
		{"output folder", func(o *Options) { o.Out = "/nonexistent" }, "output folder"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := good
			test.change(&o)
			if _, err := o.complete(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
		})
	}
	o, err := good.complete()
	if err != nil {
		t.Fatal(err)
	}
	if here, _ := os.Getwd(); o.Dir != here || o.CPUs != DefaultCPUs || o.Memory != DefaultMemory || o.Timeout != DefaultTimeout || o.Stdout == nil {
		t.Errorf("defaults not filled in: %+v", o)
	}
}

func TestBootUntilReady(t *testing.T) {
	notReady := fmt.Errorf("%w: panic%s\nline", ErrNotReady, consoleHeading)
	died := errors.New("the VM died")
	tests := []struct {
		name      string
		results   []error
		wantBoots int
		wantErr   error
	}{
		{"ready at once", []error{nil}, 1, nil},
		{"ready the second time", []error{notReady, nil}, 2, nil},
		{"never ready", []error{notReady, notReady, nil}, 2, ErrNotReady},
		{"a command that got its chance is not run twice", []error{died, nil}, 1, died},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log strings.Builder
			calls := 0
			result, err := bootUntilReady(t.Context(), Options{Kernel: "6.1", Log: &log}, func(context.Context) (Result, error) {
				calls++
				return Result{}, test.results[calls-1]
			})
			if !errors.Is(err, test.wantErr) || result.Boots != test.wantBoots || calls != test.wantBoots {
				t.Errorf("%d boots (%d counted), error %v, want %d and %v", calls, result.Boots, err, test.wantBoots, test.wantErr)
			}
			if told := strings.Count(log.String(), "\n"); told != test.wantBoots-1 {
				t.Errorf("log = %q, want a line for every second boot", log.String())
			}
		})
	}
}

func TestBootUntilReadyStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	result, err := bootUntilReady(ctx, Options{Log: io.Discard}, func(context.Context) (Result, error) {
		cancel()
		return Result{}, ErrNotReady
	})
	if !errors.Is(err, ErrNotReady) || result.Boots != 1 {
		t.Errorf("boots %d, error %v, want 1 and %v", result.Boots, err, ErrNotReady)
	}
}

func TestRunScriptIsShell(t *testing.T) {
	o := Options{Command: []string{"printf", "%s", "it's $HOME\n"}, Dir: "/a b", Env: []string{"X=it's", "Y="}, Out: "/out"}
	script := runScript(o)
	for _, want := range []string{`exec 'printf' '%s' 'it'\''s $HOME`, "cd '/a b' || exit 125", `export X='it'\''s'`, "export Y=''", "tar -C"} {
		if !strings.Contains(script, want) {
			t.Errorf("script lacks %q:\n%s", want, script)
		}
	}
	o.Out = ""
	if strings.Contains(runScript(o), "tar -C") {
		t.Error("script sends $VM_OUT though nobody asked for it")
	}
	for name, text := range map[string]string{"run": script, "init": string(initScript)} {
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s script: %v: %s", name, err, out)
		}
	}
}

func TestInitramfsUnpacks(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("no cpio on this machine to check the archive with")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "boot/00-a.ko"), "module a")
	write(t, filepath.Join(dir, "boot/01-b.ko"), "module b!")
	image, err := initramfs(Kernel{Dir: dir}, "/bin/true", "run me")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cpio", "-itv", "--quiet")
	cmd.Stdin = strings.NewReader(string(image))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	for _, want := range []string{"-rwxr-xr-x", " init\n", " vm/run\n", " bin/busybox\n", " boot/00-a.ko\n", " boot/01-b.ko\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("archive lacks %q:\n%s", want, out)
		}
	}
}

func TestMachineArguments(t *testing.T) {
	m := machine{accel: accelTCGSingle, cpus: 1, memory: "512M", kernel: "/k", initramfs: "/i", sharedSocket: "/s", console: "/c", ports: map[string]string{portControl: "/p"}}
	args := m.arguments()
	for _, want := range [][]string{
		{"-accel", "tcg,thread=single"}, {"-smp", "1"}, {"-m", "512M"}, {"-chardev", "socket,id=port-control,path=/p"},
		{"-object", "memory-backend-memfd,id=mem,size=512M,share=on"}, {"-serial", "chardev:console"}, {"-net", "none", "-kernel"},
	} {
		if !strings.Contains(strings.Join(args, " "), strings.Join(want, " ")) {
			t.Errorf("arguments lack %v: %v", want, args)
		}
	}
	if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, "port-out") }) {
		t.Error("a port nobody listens on is connected")
	}
}

func TestSharedMounts(t *testing.T) {
	const mountinfo = `22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw - ext4 /dev/vda rw
25 24 0:23 / /dev/shm rw shared:2 - tmpfs tmpfs rw
30 27 8:1 / /home rw shared:3 master:1 - ext4 /dev/sdb rw
31 27 0:40 / /mnt/with\040space rw - nfs4 server:/x rw
32 27 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
33 32 0:41 / /snap/core/1/inner ro - tmpfs tmpfs ro
34 27 0:42 / /tmp rw - tmpfs tmpfs rw
35 27 0:43 / /run/user/0 rw - tmpfs tmpfs rw
36 27 0:44 / /tmp rw - tmpfs tmpfs rw
`
	mounts, err := parseMountinfo(strings.NewReader(mountinfo))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sharedMounts(mounts), []string{"/home", "/mnt/with space", "/tmp"}; !slices.Equal(got, want) {
		t.Errorf("shared mounts = %q, want %q", got, want)
	}
	if _, err := parseMountinfo(strings.NewReader("nonsense\n")); err == nil {
		t.Error("nonsense was read as mountinfo")
	}
}

func TestInsmodFiles(t *testing.T) {
	got := insmodFiles("builtin virtio_pci\ninsmod /d/lib/modules/6/fuse.ko.xz \ninsmod /d/virtiofs.ko opt=1\n")
	if want := []string{"/d/lib/modules/6/fuse.ko.xz", "/d/virtiofs.ko"}; !slices.Equal(got, want) {
		t.Errorf("files = %q, want %q", got, want)
	}
}

func TestCheckToolsNamesPackages(t *testing.T) {
	err := checkTools([]tool{{"sh", "dash"}, {"no-such-program", "some-package"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-program (package some-package)") || strings.Contains(err.Error(), "dash") {
		t.Errorf("error = %v, want the missing program and its package only", err)
	}
}

func TestConsoleTailNamesThePanic(t *testing.T) {
	s := &streams{tail: &tail{limit: 1 << 10}}
	fmt.Fprintf(s.tail, "[1.0] Kernel panic - not syncing: sysrq\r\n%s[2.0] end\r\n", strings.Repeat("[1.1] trace\r\n", 30))
	got := s.consoleTail()
	if first, _, _ := strings.Cut(got, "\n"); !strings.Contains(first, "Kernel panic - not syncing: sysrq") || !strings.HasSuffix(got, "[2.0] end") {
		t.Errorf("console tail = %q", got)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	w := &tail{limit: 10}
	for range 5 {
		fmt.Fprint(w, "abc\r\n\n")
	}
	if got := w.lines(1); got != "abc" {
		t.Errorf("last line = %q, want abc", got)
	}
	if len(w.buf) > 10 {
		t.Errorf("%d bytes kept, want 10 at most", len(w.buf))
	}
}

func TestSweepWorkLeavesLivingAndYoung(t *testing.T) {
	temp := t.TempDir()
	names := map[string]string{}
	for _, name := range []string{"dead", "living", "other"} {
		prefix := workPrefix
		if name == "other" {
			prefix = "other-"
		}
		names[name] = filepath.Join(temp, prefix+name)
		write(t, filepath.Join(names[name], "share/root/.keep"), "")
	}
	if err := os.Remove(filepath.Join(names["dead"], "share/root/.keep")); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(names["living"])
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := sweepWork(temp, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(names["dead"]); err != nil {
		t.Errorf("a young folder was swept: %v", err)
	}
	if err := sweepWork(temp, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(names["dead"]); err == nil {
		t.Error("the folder of a dead runner is still there")
	}
	for _, name := range []string{"living", "other"} {
		if _, err := os.Stat(filepath.Join(names[name], "share/root/.keep")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCacheListAndDamage(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "kernels/6.1/6.1.0-9-cloud-amd64/release.json"), `{"release":"6.1.0-9-cloud-amd64","packages":[{"name":"a","version":"6.1.27-1"}]}`)
	write(t, filepath.Join(dir, "kernels/6.1/6.1.0-56-cloud-amd64/release.json"), `{"release":"6.1.0-56-cloud-amd64","packages":[{"name":"a","version":"6.1.192-2"}]}`)
	c, err := OpenCache(dir, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	k, err := c.Kernel(t.Context(), "6.1")
	if err != nil || k.Release != "6.1.0-56-cloud-amd64" {
		t.Errorf("Kernel = %+v, %v, want the newest cached one", k, err)
	}
	write(t, filepath.Join(dir, "kernels/6.12/x/release.json"), "{")
	if _, err := c.List(); err == nil || !strings.Contains(err.Error(), "remove the folder") {
		t.Errorf("error = %v, want what to do about the damaged folder", err)
	}
}

func TestCacheLockWaitsAndIsCancelled(t *testing.T) {
	var log strings.Builder
	c, err := OpenCache(t.TempDir(), &log)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.lock(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(log.String(), "waiting for another download") {
		t.Errorf("error = %v, log = %q, want a told wait that ends with the context", err, log.String())
	}
	unlock()
	again, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}
