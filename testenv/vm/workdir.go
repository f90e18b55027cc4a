// SPDX-License-Identifier: Apache-2.0

// This file makes the scratch folder of one VM and removes it, also those of
// runners that were killed before they could.

package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const workPrefix = "pathtrace-vm-"

// maxWorkPath leaves room for a socket's name in what unix(7) allows its path,
// 108 bytes with the final zero.
const maxWorkPath = 107 - len("/console.sock")

// staleAge keeps sweepWork off folders that their runner is still making.
const staleAge = time.Minute

// workDir makes the scratch folder of one VM, with the two empty folders the
// shared tree is mounted on (in another mount namespace), and returns how to
// remove it. The folder is locked while its runner lives.
func workDir() (dir string, remove func() error, err error) {
	if err := sweepWork(os.TempDir(), time.Now().Add(-staleAge)); err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp("", workPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("scratch folder: %w", err)
	}
	if len(dir) > maxWorkPath {
		return "", nil, errors.Join(fmt.Errorf("scratch folder %s: its path is too long for sockets: set TMPDIR to a shorter one", dir), removeWork(dir))
	}
	lock, err := lockDir(dir)
	if err != nil {
		return "", nil, errors.Join(err, removeWork(dir))
	}
	for _, point := range mountPoints(dir) {
		if err := os.MkdirAll(point, 0o755); err != nil {
			lock.Close()
			return "", nil, errors.Join(fmt.Errorf("scratch folder: %w", err), removeWork(dir))
		}
	}
	return dir, func() error { defer lock.Close(); return removeWork(dir) }, nil
}

func mountPoints(dir string) []string {
	return []string{filepath.Join(dir, "share", "root"), filepath.Join(dir, "share", "modules")}
}

// removeWork removes a scratch folder. The mount points go first, by
// themselves: were anything mounted on them here, their removal fails and
// nothing else is removed.
func removeWork(dir string) error {
	for _, point := range mountPoints(dir) {
		if err := os.Remove(point); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("scratch folder: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	return nil
}

// lockDir takes the lock that says a runner is using dir.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("scratch folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("scratch folder %s: lock: %w", dir, err)
	}
	return f, nil
}

// sweepWork removes scratch folders below temp that were made before the given
// time and whose runner is gone.
func sweepWork(temp string, before time.Time) error {
	dirs, err := filepath.Glob(filepath.Join(temp, workPrefix+"*"))
	if err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || info.ModTime().After(before) {
			continue // just removed by its own runner, or too young
		}
		lock, err := lockDir(dir)
		if err != nil {
			continue // in use
		}
		err = removeWork(dir)
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
