// SPDX-License-Identifier: Apache-2.0

// file.go writes a report to a file in one go: it is there whole or not at all,
// and an older one of the same name stays until then.

package report

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// File is a model.Sink that writes a report to a file at the summary.
type File struct {
	*Writer
	page bytes.Buffer
	path string
}

// Create gives a File for path. What is wrong with path is said now, not when
// the trace is over: a folder that is missing or may not be written to, a device,
// a folder of that name.
func Create(path string) (*File, error) {
	target, err := targetOf(path)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", path, err)
	}
	trial, err := beside(target)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", path, reason(err))
	}
	if err := errors.Join(trial.Close(), os.Remove(trial.Name())); err != nil {
		return nil, fmt.Errorf("report %s: %w", path, reason(err))
	}
	f := &File{path: target}
	f.Writer = New(&f.page)
	return f, nil
}

// targetOf follows links, since renaming would replace the link, and takes
// regular files only, since renaming would replace a device.
func targetOf(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return "", errors.New("is a link to nothing: remove it or name another file")
		}
		return path, nil
	}
	if err != nil {
		return "", reason(err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", reason(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("is not a regular file: name a file to write")
	}
	return target, nil
}

// beside opens a new file in the folder of target, with the permissions that a
// new file gets there.
func beside(target string) (*os.File, error) {
	for n := 0; ; n++ {
		name := filepath.Join(filepath.Dir(target), fmt.Sprintf(".%s.%d-%d.tmp", filepath.Base(target), os.Getpid(), n))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) && n < 100 {
			continue
		}
		return f, err
	}
}

// Summary writes the file.
func (f *File) Summary(s *model.Summary) error {
	f.page.Reset()
	if err := f.Writer.Summary(s); err != nil {
		return err
	}
	if err := f.replace(); err != nil {
		return fmt.Errorf("report %s: %w", f.path, reason(err))
	}
	return nil
}

// replace puts the page in the place of the file.
func (f *File) replace() error {
	out, err := beside(f.path)
	if err != nil {
		return err
	}
	_, err = out.Write(f.page.Bytes())
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}

// reason takes the path out of a file error, which says it already.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
