// SPDX-License-Identifier: Apache-2.0

package cause

// This file makes the test data: it builds testenv's nodes, breaks them, traces
// the broken and the healthy traffic with the built program, and records what it
// told together with the state of the node at that moment.
//
//	PATHTRACE_RECORD=$PWD/tracer/cause/testdata PATHTRACE_BIN=$PWD/build/pathtrace go test -run TestRecord ./tracer/cause
//
// PATHTRACE_RECORD_ONLY=calico-legacy/,ttl records other scenarios than those of
// the table test: all whose names hold one of these.

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/story"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/node"
)

func TestRecord(t *testing.T) {
	dir, bin := os.Getenv("PATHTRACE_RECORD"), os.Getenv("PATHTRACE_BIN")
	if dir == "" || bin == "" {
		t.Skip("makes test data: only with PATHTRACE_RECORD and PATHTRACE_BIN set")
	}
	wanted := func(name string) bool { return slices.ContainsFunc(told, func(w want) bool { return w.name == name }) }
	if only := os.Getenv("PATHTRACE_RECORD_ONLY"); only != "" {
		parts := strings.Split(only, ",")
		wanted = func(name string) bool {
			return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(name, part) })
		}
	}
	for _, d := range cluster.Dataplanes() {
		for _, proxied := range []bool{false, true} {
			var list []story.Scenario
			for _, s := range story.Of(d) {
				if s.KubeProxy == proxied && wanted(s.Name) {
					list = append(list, s)
				}
			}
			if len(list) > 0 {
				recordAll(t, dir, bin, d, proxied, list)
			}
		}
	}
}

func recordAll(t *testing.T, dir, bin string, d cluster.Dataplane, proxied bool, list []story.Scenario) {
	e, err := cluster.New(t.Context(), cluster.Options{Dataplane: d, Nodes: map[bool]int{false: 2, true: 1}[proxied], KubeProxy: proxied})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, s := range list {
		if err := recordOne(t.Context(), dir, bin, e, &s); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// recordOne records a scenario and its healthy twin.
func recordOne(ctx context.Context, dir, bin string, e *cluster.Env, s *story.Scenario) (err error) {
	path := filepath.Join(dir, fileName(s.Name))
	applied, err := s.Apply(ctx, e)
	if err != nil {
		return err
	}
	err = recordTrace(ctx, path, bin, e, s.Traffic, func() error {
		_, err := s.Run(ctx, e)
		return err
	})
	if err := errors.Join(err, applied.Undo()); err != nil {
		return err
	}
	if err := s.Check(ctx, e); err != nil {
		return fmt.Errorf("after mending: %w", err)
	}
	return recordTrace(ctx, path+".healthy", bin, e, s.Healthy, func() error {
		r, err := s.RunHealthy(ctx, e)
		if err == nil && r.Outcome != traffic.Answered {
			err = fmt.Errorf("healthy traffic does not pass: %v", r)
		}
		return err
	})
}

// recordTrace traces some traffic and writes what was told, and how the node
// stood.
func recordTrace(ctx context.Context, path, bin string, e *cluster.Env, tr traffic.Spec, send func() error) error {
	src, dst, err := traffic.Ends(e, tr)
	if err != nil {
		return err
	}
	ready := path + ".ready"
	defer os.Remove(ready)
	cmd := exec.CommandContext(ctx, bin, "--netns", e.Node(1).Netns.Path, "--src", src, "--dst", dst, "--proto", tr.Proto,
		"--backend", "tracepoint", "-o", "json", "--ready-file", ready)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() == 1) {
			return fmt.Errorf("pathtrace: %w: %s", err, stderr.Bytes())
		}
		return writeGzip(path+".jsonl.gz", withoutFindings(out.Bytes()))
	}
	if err := awaitReady(ready); err != nil {
		return errors.Join(err, stop())
	}
	if err := send(); err != nil {
		return errors.Join(err, stop())
	}
	time.Sleep(200 * time.Millisecond) // for the last packet's end
	return errors.Join(recordState(ctx, path, e), stop())
}

// withoutFindings leaves out what is to be found when it is played again.
func withoutFindings(lines []byte) (kept []byte) {
	for line := range bytes.Lines(lines) {
		if !bytes.HasPrefix(line, []byte(`{"type":"finding"`)) {
			kept = append(kept, line...)
		}
	}
	return kept
}

func awaitReady(file string) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	return errors.New("pathtrace not ready within 30 s")
}

func recordState(ctx context.Context, path string, e *cluster.Env) error {
	ns, err := node.OpenNamespaces(e.Node(1).Netns.Path)
	if err != nil {
		return err
	}
	r, err := capture(NewLive(ns, standing{ctx, ns}))
	if err := errors.Join(err, ns.Close()); err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeGzip(path+".state.json.gz", raw)
}

func writeGzip(path string, data []byte) error {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}
