// SPDX-License-Identifier: Apache-2.0

// Package kernel answers what the running kernel has: its types (BTF), the
// functions and tracepoints one may attach to, its drop reasons, its symbols
// and its modules. It reads /sys and /proc only; nothing in here loads a
// module, a program or anything else. Kernel differences are settled by asking
// these small questions, never by comparing version numbers.
package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// VMLinux is the module name under which the kernel image itself is reported.
const VMLinux = "vmlinux"

// Errors that callers tell apart.
var (
	// ErrNoBTF: the kernel was built without type information.
	ErrNoBTF = errors.New("kernel has no BTF")
	// ErrNotLoaded: the module is neither loaded nor does it have BTF of its
	// own (built-in code is found in vmlinux).
	ErrNotLoaded = errors.New("kernel module not loaded")
	// ErrNoModuleBTF: the module is loaded but came without BTF (Linux before
	// 5.11, or a build without CONFIG_DEBUG_INFO_BTF_MODULES).
	ErrNoModuleBTF = errors.New("kernel module has no BTF")
	// ErrNotFound: the kernel has no such function, type, field, value or
	// tracepoint.
	ErrNotFound = errors.New("not in this kernel")
)

// Kernel is the running kernel. It is safe for concurrent use.
type Kernel struct {
	release string
	cache   *btf.Cache
	spec    *btf.Spec
	files   files
	reasons *DropReasons
}

// files is where the kernel tells about itself; tests point it elsewhere.
type files struct {
	modules   string // /proc/modules: name first on each line; absent without CONFIG_MODULES
	moduleBTF string // /sys/kernel/btf: one file per module with BTF, and vmlinux
}

// Open reads the running kernel's type information. Without any it fails with
// one line that wraps ErrNoBTF.
func Open() (*Kernel, error) {
	release, err := Release()
	if err != nil {
		return nil, err
	}
	cache := btf.NewCache()
	spec, err := cache.Kernel()
	if errors.Is(err, btf.ErrNotSupported) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("kernel %s: no type information in /sys/kernel/btf/vmlinux, without which packets cannot be followed: "+
			"boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian 11, Ubuntu 20.10, RHEL 8.2 and later ship one): %w", release, ErrNoBTF)
	}
	if err != nil {
		return nil, fmt.Errorf("kernel %s: read type information /sys/kernel/btf/vmlinux: %w", release, err)
	}
	k := &Kernel{
		release: release,
		cache:   cache,
		spec:    spec,
		files:   files{modules: procModules, moduleBTF: "/sys/kernel/btf"},
	}
	if k.reasons, err = loadDropReasons(k); err != nil {
		return nil, err
	}
	return k, nil
}

// Release is the release of the running kernel as uname -r prints it.
func Release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// Release is the release of the kernel as uname -r prints it.
func (k *Kernel) Release() string { return k.release }

// BTF is the type information of the kernel image. Callers must not change it.
func (k *Kernel) BTF() *btf.Spec { return k.spec }

// Cache is the cache of decoded BTF, to be handed to
// ebpf.CollectionOptions so that nothing is decoded twice.
func (k *Kernel) Cache() *btf.Cache { return k.cache }

// DropReasons is the kernel's list of drop reasons.
func (k *Kernel) DropReasons() *DropReasons { return k.reasons }

// ModuleBTF is the type information of a loaded module, decoded once. It fails
// with ErrNotLoaded, or with ErrNoModuleBTF when the module is there but its
// types are not. Of a module that was unloaded and loaded again while the
// tracer ran the first version is returned.
func (k *Kernel) ModuleBTF(name string) (*btf.Spec, error) {
	spec, err := k.cache.Module(name)
	if err == nil {
		return spec, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read type information of module %s: %w", name, err)
	}
	loaded, lerr := k.ModuleLoaded(name)
	switch {
	case lerr != nil:
		return nil, lerr
	case loaded:
		return nil, fmt.Errorf("module %s: %w", name, ErrNoModuleBTF)
	}
	return nil, fmt.Errorf("module %s: %w", name, ErrNotLoaded)
}

// LoadedModules lists the loaded modules, sorted. It is empty on a kernel
// built without module support.
func (k *Kernel) LoadedModules() ([]string, error) { return loadedModules(k.files.modules) }

// ModuleLoaded tells whether a module is loaded now. Built-in code is not
// loaded in this sense.
func (k *Kernel) ModuleLoaded(name string) (bool, error) {
	mods, err := k.LoadedModules()
	if err != nil {
		return false, err
	}
	_, found := slices.BinarySearch(mods, moduleName(name))
	return found, nil
}

// LoadedModules lists the loaded modules like the method of the same name,
// for callers that need no BTF.
func LoadedModules() ([]string, error) { return loadedModules(procModules) }

// procModules lists the loaded modules, name first on each line
// (kernel/module/procfs.c, m_show).
const procModules = "/proc/modules"

func loadedModules(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, procMounted()
	}
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	var mods []string
	for line := range bytes.Lines(raw) {
		name, _, _ := strings.Cut(string(line), " ")
		if name = strings.TrimSpace(name); name != "" {
			mods = append(mods, name)
		}
	}
	slices.Sort(mods)
	return mods, nil
}

// procMounted tells a kernel without modules (fine) from a missing /proc.
func procMounted() error {
	if _, err := os.Stat("/proc/version"); err != nil {
		return fmt.Errorf("list kernel modules: /proc is not mounted: %w", err)
	}
	return nil
}

// moduleName is a module's name as /proc/modules writes it: modprobe takes
// dashes, the kernel has underscores.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }
