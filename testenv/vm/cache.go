// SPDX-License-Identifier: Apache-2.0

// This file keeps kernels on disk, ready to boot:
//
//	packages/NAME_VERSION_amd64.deb       as downloaded
//	kernels/LINE/RELEASE/vmlinuz
//	kernels/LINE/RELEASE/lib/modules/RELEASE/
//	kernels/LINE/RELEASE/boot/NN-NAME.ko  what the VM needs to reach its root
//	kernels/LINE/RELEASE/release.json     what it was made of
//	lock                                  held while something is added
//
// A release folder appears by one rename when it is complete, so readers need
// no lock.

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bootModules are the modules (with what they need) that the VM's first
// program loads: the bus, the shared root, the overlay over it and the ports
// that carry the output. Those built into a kernel are skipped.
func bootModules() []string {
	return []string{"virtio_pci", "virtio_console", "virtiofs", "overlay"}
}

// Cache is a folder of kernels.
type Cache struct {
	dir string
	log io.Writer
}

// Kernel is a cached kernel.
type Kernel struct {
	Line    string // series, such as "6.12"
	Release string // uname -r
	Version string // Debian's package version
	Dir     string // absolute
}

// DefaultCacheDir is pathtrace/kernels in the user's cache folder
// ($XDG_CACHE_HOME, else ~/.cache).
func DefaultCacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("kernel cache: %w: set XDG_CACHE_HOME or name a folder", err)
	}
	return filepath.Join(base, "pathtrace", "kernels"), nil
}

// OpenCache opens the cache in dir (empty: DefaultCacheDir), making the folder
// if need be. Notices about downloads go to log.
func OpenCache(dir string, log io.Writer) (*Cache, error) {
	if dir == "" {
		var err error
		if dir, err = DefaultCacheDir(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "kernels"), 0o755); err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	return &Cache{dir: dir, log: log}, nil
}

// List returns every cached kernel, by line (oldest first) and version
// (newest first).
func (c *Cache) List() ([]Kernel, error) {
	var all []Kernel
	for _, name := range Lines() {
		entries, err := os.ReadDir(filepath.Join(c.dir, "kernels", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("kernel cache: %w", err)
		}
		var found []Kernel
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				continue
			}
			k, err := c.load(name, e.Name())
			if err != nil {
				return nil, err
			}
			found = append(found, k)
		}
		slices.SortFunc(found, func(a, b Kernel) int { return compareVersions(b.Version, a.Version) })
		all = append(all, found...)
	}
	return all, nil
}

func (c *Cache) load(lineName, releaseName string) (Kernel, error) {
	dir := filepath.Join(c.dir, "kernels", lineName, releaseName)
	text, err := os.ReadFile(filepath.Join(dir, "release.json"))
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel cache: %w: remove %s", err, dir)
	}
	var r release
	if err := json.Unmarshal(text, &r); err != nil {
		return Kernel{}, fmt.Errorf("kernel cache: %s/release.json: %w: remove the folder", dir, err)
	}
	if r.Name == "" || len(r.Packages) == 0 {
		return Kernel{}, fmt.Errorf("kernel cache: %s/release.json names no release or no packages: remove the folder", dir)
	}
	return Kernel{Line: lineName, Release: r.Name, Version: r.Packages[0].Version, Dir: dir}, nil
}

// Kernel returns the newest cached kernel of a line, fetching one when none is
// cached.
func (c *Cache) Kernel(ctx context.Context, lineName string) (Kernel, error) {
	l, err := lineNamed(lineName)
	if err != nil {
		return Kernel{}, err
	}
	if k, ok, err := c.newest(l.name); err != nil || ok {
		return k, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	if k, ok, err := c.newest(l.name); err != nil || ok { // another process was first
		return k, err
	}
	return c.fetch(ctx, l)
}

// Fetch returns the newest kernel of a line that Debian's archive holds,
// downloading it unless it is cached.
func (c *Cache) Fetch(ctx context.Context, lineName string) (Kernel, error) {
	l, err := lineNamed(lineName)
	if err != nil {
		return Kernel{}, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	return c.fetch(ctx, l)
}

func (c *Cache) newest(lineName string) (Kernel, bool, error) {
	all, err := c.List()
	if err != nil {
		return Kernel{}, false, err
	}
	i := slices.IndexFunc(all, func(k Kernel) bool { return k.Line == lineName })
	if i < 0 {
		return Kernel{}, false, nil
	}
	return all[i], true, nil
}

// lock waits until no other process adds to the cache.
func (c *Cache) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("kernel cache: lock %s: %w", f.Name(), err)
		}
		if !told {
			fmt.Fprintf(c.log, "waiting for another download into %s\n", c.dir)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("kernel cache: wait for %s: %w", f.Name(), context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// fetch downloads and unpacks the archive's newest kernel of l. The lock is
// held.
func (c *Cache) fetch(ctx context.Context, l line) (k Kernel, err error) {
	if err := checkTools(fetchTools()); err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", l.name, err)
	}
	work, err := os.MkdirTemp(c.dir, ".fetch-")
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	a, err := openArchive(ctx, filepath.Join(work, "apt"), l.suites, c.log)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", l.name, err)
	}
	index, err := a.index(ctx, l)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", l.name, err)
	}
	r, err := l.newest(index)
	if err != nil {
		return Kernel{}, err
	}
	final := filepath.Join(c.dir, "kernels", l.name, r.Name)
	if _, err := os.Stat(final); err == nil {
		return c.load(l.name, r.Name)
	}
	debs, err := a.download(ctx, r, filepath.Join(c.dir, "packages"))
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", l.name, err)
	}
	ready := filepath.Join(work, "kernel")
	if err := unpack(ctx, r, debs, filepath.Join(work, "unpacked"), ready); err != nil {
		return Kernel{}, fmt.Errorf("kernel %s: %w", l.name, err)
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return Kernel{}, fmt.Errorf("kernel cache: %w", err)
	}
	if err := os.Rename(ready, final); err != nil {
		return Kernel{}, fmt.Errorf("kernel cache: %w", err)
	}
	return c.load(l.name, r.Name)
}

// unpack turns packages into a release folder at ready, by way of the scratch
// folder raw. Before merged /usr the modules lie in lib, after in usr/lib;
// vmlinuz lies in boot or beside the modules.
func unpack(ctx context.Context, r release, debs []string, raw, ready string) error {
	for _, deb := range debs {
		if _, err := command(ctx, "dpkg-deb", "-x", deb, raw); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	modules, err := firstExisting(filepath.Join(raw, "usr/lib/modules", r.Name), filepath.Join(raw, "lib/modules", r.Name))
	if err != nil {
		return err
	}
	image, err := firstExisting(filepath.Join(raw, "boot/vmlinuz-"+r.Name), filepath.Join(modules, "vmlinuz"))
	if err != nil {
		return err
	}
	for _, dir := range []string{"lib/modules", "boot"} {
		if err := os.MkdirAll(filepath.Join(ready, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Rename(image, filepath.Join(ready, "vmlinuz")); err != nil {
		return err
	}
	if err := os.Rename(modules, filepath.Join(ready, "lib/modules", r.Name)); err != nil {
		return err
	}
	if _, err := command(ctx, "depmod", "-b", ready, r.Name); err != nil {
		return err
	}
	if err := collectBootModules(ctx, ready, r.Name); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(ready, "release.json"), append(text, '\n'), 0o644)
}

func firstExisting(names ...string) (string, error) {
	for _, name := range names {
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("the packages hold no %s", strings.Join(names, " or "))
}

// collectBootModules writes bootModules, uncompressed and numbered in load
// order, to the boot folder: busybox loads them before any host program runs.
func collectBootModules(ctx context.Context, dir, releaseName string) error {
	var done []string
	for _, name := range bootModules() {
		out, err := command(ctx, "modprobe", "-d", dir, "-S", releaseName, "--show-depends", name)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, file := range insmodFiles(out) {
			if slices.Contains(done, file) {
				continue
			}
			base, _, _ := strings.Cut(filepath.Base(file), ".ko")
			target := filepath.Join(dir, "boot", fmt.Sprintf("%02d-%s.ko", len(done), base))
			if err := decompress(ctx, file, target); err != nil {
				return fmt.Errorf("module %s: %w", name, err)
			}
			done = append(done, file)
		}
	}
	return nil
}

// insmodFiles picks the files out of what modprobe --show-depends prints:
// "insmod FILE [OPTION...]" or "builtin NAME".
func insmodFiles(out string) []string {
	var files []string
	for text := range strings.Lines(out) {
		if f := strings.Fields(text); len(f) >= 2 && f[0] == "insmod" {
			files = append(files, f[1])
		}
	}
	return files
}

func decompress(ctx context.Context, from, to string) error {
	tool := map[string][]string{".xz": {"xz", "-dc"}, ".zst": {"zstd", "-dcq"}, ".gz": {"gzip", "-dc"}, ".ko": {"cat"}}[filepath.Ext(from)]
	if tool == nil {
		return fmt.Errorf("%s: compressed in an unknown way", from)
	}
	out, err := command(ctx, tool[0], append(tool[1:], from)...)
	if err != nil {
		return err
	}
	return os.WriteFile(to, []byte(out), 0o644)
}

// command runs a program and returns its standard output.
func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", commandError(ctx, name, err, stderr.String())
	}
	return string(out), nil
}
