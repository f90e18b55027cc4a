// SPDX-License-Identifier: Apache-2.0

// How a case is staged: its node is built, lines run in its places, traffic is sent.

package field

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/owner"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// Stage is a case with its node standing.
type Stage struct {
	Case Case
	Env  *cluster.Env
	cast cast
	// background are processes that lines have left running.
	background []*exec.Cmd
}

// Build makes the case's node and sets it up, unbroken.
func Build(ctx context.Context, c Case) (*Stage, error) {
	e, err := cluster.New(ctx, c.Node)
	if err != nil {
		return nil, err
	}
	s := &Stage{Case: c, Env: e, cast: newCast(e)}
	for _, name := range c.Places {
		if _, err := e.AddPlace(name); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if err := s.Run(ctx, c.Setup); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close takes it all down.
func (s *Stage) Close() error {
	for _, cmd := range s.background {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
	}
	s.background = nil
	err := s.Env.Close()
	if gone := os.Remove(s.cgroup()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// cgroup is the cgroup that the case's lines may make and attach programs to; it bears
// the name of the state folder, by which it is found if this process dies.
func (s *Stage) cgroup() string {
	return filepath.Join(owner.CgroupDir(), filepath.Base(s.Env.StateDir))
}

// places are the namespaces by the names that lines call them.
func (c cast) places() map[string]*netns.Namespace {
	all := map[string]*netns.Namespace{"outside": c.env.Underlay}
	for _, n := range c.env.Nodes {
		all[n.Name] = n.Netns
	}
	for _, p := range c.env.Pods {
		all[p.Name] = p.Netns
	}
	for _, ns := range c.env.Places {
		all[ns.Name[strings.LastIndex(ns.Name, "-")+1:]] = ns
	}
	return all
}

// Run runs lines one after the other; the first that fails ends it. A line that
// ends with & is left running until the case is over.
func (s *Stage) Run(ctx context.Context, lines []string) error {
	for _, line := range lines {
		if err := s.run(ctx, line); err != nil {
			return fmt.Errorf("%s: %w", s.Case.Name, err)
		}
	}
	return nil
}

func (s *Stage) run(ctx context.Context, line string) error {
	name, command, ok := strings.Cut(line, ": ")
	ns := s.cast.places()[name]
	if !ok || ns == nil {
		return fmt.Errorf("line %q: begins with no place: take one of the pods, nodes, outside, or the case's own", line)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	vars := append(s.cast.variables(), "XTABLES_LOCKFILE="+s.Env.StateDir+"/"+ns.Name+".lock", "DIR="+s.Env.StateDir, "SELF="+self, "CGROUP="+s.cgroup())
	if words, background := strings.CutSuffix(command, " &"); background {
		cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+words)
		cmd.Env = append(cmd.Environ(), vars...)
		if err := ns.Start(cmd); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		s.background = append(s.background, cmd)
		return nil
	}
	if _, err := ns.RunEnv(ctx, vars, "", "sh", "-ec", command); err != nil {
		return fmt.Errorf("line %q: %w", line, err)
	}
	return nil
}

// Send sends the traffic of the case, or of its twin.
func (s *Stage) Send(ctx context.Context, healthy bool) (string, error) {
	t := s.Case.Traffic
	if healthy && s.Case.Healthy != nil {
		t = *s.Case.Healthy
	}
	if s.Case.Command != "" && !(healthy && s.Case.Healthy != nil) {
		if err := s.run(ctx, s.Case.Command); err != nil {
			return err.Error(), ctx.Err()
		}
		return "the command succeeded", nil
	}
	r, err := traffic.Send(ctx, s.Env, t)
	return r.String(), err
}

// Ends are what is traced.
func (s *Stage) Ends() (src, dst string, err error) {
	if s.Case.Src != "" && s.Case.Dst != "" {
		return s.expand(s.Case.Src), s.expand(s.Case.Dst), nil
	}
	src, dst, err = traffic.Ends(s.Env, s.Case.Traffic)
	if s.Case.Src != "" {
		src = s.expand(s.Case.Src)
	}
	if s.Case.Dst != "" {
		dst = s.expand(s.Case.Dst)
	}
	return src, dst, err
}

// expand puts the cast's variables in.
func (s *Stage) expand(text string) string {
	for _, v := range s.cast.variables() {
		name, value, _ := strings.Cut(v, "=")
		text = strings.ReplaceAll(text, "${"+name+"}", value)
	}
	return text
}
