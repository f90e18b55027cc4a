// SPDX-License-Identifier: Apache-2.0

// ready.go handles --ready-file: a file that appears when nothing can be
// missed any more, for scripts that start the traffic themselves.

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readyText is what a ready file holds. A file with other content is not ours.
const readyText = "pathtrace is ready\n"

// prepareReady makes sure that path can be created later, and takes away the
// ready file of an earlier run, which would tell too early. Any other file at
// path is left alone and refused.
func prepareReady(path string) error {
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fmt.Errorf("--ready-file %s: its folder does not exist: create the folder first", path)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--ready-file: %w", err)
	}
	if !info.Mode().IsRegular() || !isReadyFile(path, info) {
		return fmt.Errorf("--ready-file %s: there is something else of this name: remove it or use another name", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("--ready-file: an old one is in the way: %w", err)
	}
	return nil
}

func isReadyFile(path string, info fs.FileInfo) bool {
	if info.Size() == 0 {
		return true
	}
	if info.Size() != int64(len(readyText)) {
		return false
	}
	content, err := os.ReadFile(path)
	return err == nil && string(content) == readyText
}

// announceReady creates the ready file. It appears complete: it is written
// under another name first.
func announceReady(path string) error {
	draft, err := os.CreateTemp(filepath.Dir(path), ".pathtrace-ready-*")
	if err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	_, err = draft.WriteString(readyText)
	if err = errors.Join(err, draft.Chmod(0o644), draft.Close()); err == nil {
		err = os.Rename(draft.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("--ready-file %s: %w", path, err), os.Remove(draft.Name()))
	}
	return nil
}
