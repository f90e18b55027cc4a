// SPDX-License-Identifier: Apache-2.0

// This file asks Debian's archive for a kernel's packages with the host's own
// apt-get, run on a private state folder: own sources, own lists, own cache.
// Signatures and checksums are apt's to verify; the system's apt state is
// neither used nor changed.

package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	aptEtc         = "/etc/apt"
	aptTemplate    = "/usr/share/python-apt/templates/debian.info" // of python-apt-common
	archiveKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// archive is apt with a private state in dir.
type archive struct {
	dir string
	env []string
	log io.Writer
}

// openArchive makes apt's state in dir and fetches the indexes of the suites.
func openArchive(ctx context.Context, dir string, suites []string, log io.Writer) (*archive, error) {
	m, err := findMirror(aptEtc, aptTemplate)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(archiveKeyring); err != nil {
		return nil, fmt.Errorf("debian's archive keys: %w: install debian-archive-keyring", err)
	}
	acquire, err := hostAcquire(ctx)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("apt state: %w", err)
		}
	}
	conf := filepath.Join(dir, "apt.conf")
	for name, text := range map[string]string{conf: aptConf(dir, acquire), filepath.Join(dir, "sources.list"): sourcesList(m, suites)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("apt state: %w", err)
		}
	}
	a := &archive{dir: dir, env: append(os.Environ(), "APT_CONFIG="+conf, "LC_ALL=C.UTF-8"), log: log}
	if _, err := a.run(ctx, dir, "apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update"); err != nil {
		return nil, fmt.Errorf("package index of %s: %w; if the suite has moved to an archive, set %s to that mirror", strings.Join(suites, ", "), err, MirrorVariable)
	}
	return a, nil
}

// aptConf is an apt.conf(5) that keeps apt out of the system's state. The
// configuration parts are left out because they may hold hooks; what they say
// about reaching the mirror comes in as acquire.
func aptConf(dir, acquire string) string {
	return fmt.Sprintf(`Dir::Etc::Parts "/dev/null";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "%[1]s";
Dir::State::lists "%[1]s/lists";
Dir::State::status "/dev/null";
Dir::Cache "%[1]s/cache";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
%[2]s`, dir, acquire)
}

// sourcesList is a sources.list(5) with those of the suites that the mirror
// has a place for.
func sourcesList(m mirror, suites []string) string {
	var b strings.Builder
	for _, suite := range suites {
		if base, ok := m.base(suite); ok {
			fmt.Fprintf(&b, "deb [signed-by=%s] %s %s main\n", archiveKeyring, base, suite)
		}
	}
	return b.String()
}

// hostAcquire returns the host's apt settings on how to reach mirrors:
// proxies, certificates, time checks, retries.
func hostAcquire(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return "", fmt.Errorf("apt-config dump: %w", err)
	}
	return filterAcquire(string(out)), nil
}

func filterAcquire(dump string) string {
	var b strings.Builder
	for text := range strings.Lines(dump) {
		for _, prefix := range []string{"Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv"} {
			if strings.HasPrefix(text, prefix) {
				b.WriteString(text)
				break
			}
		}
	}
	return b.String()
}

// index lists the kernel packages of the archive.
func (a *archive) index(ctx context.Context, l line) ([]pkg, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "pkgnames", "linux-")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range strings.Fields(out) {
		if l.wants(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	out, err = a.run(ctx, a.dir, "apt-cache", append([]string{"show", "--"}, names...)...)
	if err != nil {
		return nil, err
	}
	return parsePackages(strings.NewReader(out))
}

// wants tells whether a package name may belong to the line.
func (l line) wants(name string) bool {
	if l.image.MatchString(name) {
		return true
	}
	for _, c := range l.companions {
		before, after, _ := strings.Cut(c, "%s")
		if strings.HasPrefix(name, before+l.name) && strings.HasSuffix(name, "-cloud-amd64"+after) {
			return true
		}
	}
	return false
}

// download fetches the packages of r into dir, skipping what is there already
// and intact, and returns the files.
func (a *archive) download(ctx context.Context, r release, dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("package cache: %w", err)
	}
	var files []string
	for _, p := range r.Packages {
		fmt.Fprintf(a.log, "fetching %s %s (%.1f MB)\n", p.Name, p.Version, float64(p.Size)/1e6)
		if _, err := a.run(ctx, dir, "apt-get", "-qq", "download", p.Name+"="+p.Version); err != nil {
			return nil, fmt.Errorf("package %s %s: %w", p.Name, p.Version, err)
		}
		file := filepath.Join(dir, p.fileName())
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("package %s %s was downloaded but is not there: %w", p.Name, p.Version, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// fileName is the name apt-get download gives the package: a colon, which
// only an epoch brings, is written %3a.
func (p pkg) fileName() string {
	return fmt.Sprintf("%s_%s_amd64.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"))
}

// run runs one of apt's commands in a folder and returns its output. An error
// carries the first error line apt printed.
func (a *archive) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, a.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", commandError(ctx, name, err, stderr.String())
	}
	return stdout.String(), nil
}

// commandError turns a failed command into one line: the first line of its
// complaint that says error, else the last line.
func commandError(ctx context.Context, name string, err error, stderr string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	var said string
	for text := range strings.Lines(stderr) {
		if text = strings.TrimSpace(text); text != "" {
			said = text
		}
		if strings.HasPrefix(text, "E: ") {
			break
		}
	}
	if said == "" {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s: %w: %s", name, err, said)
}
