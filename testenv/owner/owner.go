// SPDX-License-Identifier: Apache-2.0

// Package owner says who owns a namespace or a folder of the tests: its name
// holds the process that made it, so that what a dead owner left behind can be
// told from what is in use, and is removed.
package owner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/proc"
)

// prefix begins the name of every namespace: pt-PID-STARTTIME-NUMBER-ROLE.
const prefix = "pt-"

// statePrefix begins the name of every state directory, in os.TempDir():
// pathtrace-testenv-PID-STARTTIME-NUMBER.
const statePrefix = "pathtrace-testenv-"

// owner is a process: a pid alone is used again, with its start time it is not.
type owner struct {
	pid   int
	start uint64 // clock ticks since boot, field 22 of /proc/PID/stat (proc(5))
}

func (o owner) String() string { return fmt.Sprintf("%d-%d", o.pid, o.start) }

// self is the owner of what this process makes.
func self() (owner, error) {
	start, err := proc.StartTime(os.Getpid())
	return owner{os.Getpid(), start}, err
}

// parse reads the owner out of a namespace's or state directory's name.
func parse(name string) (owner, bool) {
	rest, ok := strings.CutPrefix(name, statePrefix)
	if !ok {
		if rest, ok = strings.CutPrefix(name, prefix); !ok {
			return owner{}, false
		}
	}
	parts := strings.SplitN(rest, "-", 3)
	if len(parts) < 3 {
		return owner{}, false
	}
	pid, err1 := strconv.Atoi(parts[0])
	start, err2 := strconv.ParseUint(parts[1], 10, 64)
	return owner{pid, start}, err1 == nil && err2 == nil && pid > 0
}

// alive tells whether the owning process still runs.
func (o owner) alive() (bool, error) {
	start, err := proc.StartTime(o.pid)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && start == o.start, err
}

// Claim makes the state directory of an environment, in os.TempDir(), and tells
// how the names of its namespaces begin. No other environment has either.
func Claim() (name, stateDir string, err error) {
	o, err := self()
	if err != nil {
		return "", "", err
	}
	for number := 1; ; number++ {
		stateDir = filepath.Join(os.TempDir(), fmt.Sprintf("%s%s-%d", statePrefix, o, number))
		err := os.Mkdir(stateDir, 0o700)
		if !errors.Is(err, os.ErrExist) { // else another of this process stands
			return fmt.Sprintf("%s%s-%d", prefix, o, number), stateDir, err
		}
	}
}

// CgroupDir is where cgroups of the second version are: alone, or beside those of the
// first (as systemd mounts them).
func CgroupDir() string {
	const alone, beside = "/sys/fs/cgroup", "/sys/fs/cgroup/unified"
	if _, err := os.Stat(filepath.Join(alone, "cgroup.procs")); err != nil {
		return beside
	}
	return alone
}

// MakeStateDir makes a folder for what belongs to this process. CleanStale removes
// it when the process is gone and did not.
func MakeStateDir(what string) (string, error) {
	o, err := self()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%s-%s-", statePrefix, o, what))
}

// CleanStale removes the namespaces and state directories of owners that are
// gone, and returns their names. What a living process owns is left alone.
func CleanStale() ([]string, error) {
	var removed []string
	var errs []error
	sweep := func(dir string, remove func(path string) error) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, entry := range entries {
			o, ours := parse(entry.Name())
			if !ours {
				continue
			}
			alive, err := o.alive()
			if err == nil && !alive {
				err = remove(filepath.Join(dir, entry.Name()))
				removed = append(removed, entry.Name())
			}
			errs = append(errs, err)
		}
	}
	sweep(netns.Dir, netns.RemoveName)
	sweep(os.TempDir(), os.RemoveAll)
	sweep(CgroupDir(), os.Remove)
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("clean up after dead owners: %w", err)
	}
	return removed, nil
}
